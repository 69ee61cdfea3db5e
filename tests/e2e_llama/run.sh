#!/usr/bin/env bash
# A real engine from end to end: builds llama.cpp's server from the sources that the PyPI package llama-cpp-python carries
# (a quarter of an hour on two cores, once), lets it serve a model with random weights on one core, profiles it over 5 x 5
# cells at batch 1 and 4, fits, holds the models against the cells left out, plans a queue for them and runs the plan on a
# node of a throw-away Slurm. Everything is in target/e2e-llama. `run.sh configure` and `run.sh build` stop after that step.
# JOBS: compilers at a time; CORE: where the server runs; WATTS: what the processor draws while it serves, where nothing
# meters it: a figure that is said and not measured, as all that rests on it then says too.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
here=tests/e2e_llama
out=target/e2e-llama
version=0.3.36
sources=$out/llama_cpp_python-$version/vendor/llama.cpp
server=$out/build/bin/llama-server
jouleplan=target/release/jouleplan
until=${1:-all}
mkdir -p "$out"

if [ ! -d "$out/venv" ]; then
  python3 -m venv "$out/venv"
  "$out/venv/bin/pip" install --quiet --disable-pip-version-check --requirement $here/requirements.txt
fi
if [ ! -d "$sources" ]; then
  "$out/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
    --dest "$out" "llama-cpp-python==$version"
  tar --extract --gzip --file "$out/llama_cpp_python-$version.tar.gz" --directory "$out"
fi
# No web page (it would be downloaded), no machine's own instructions (the binary may run on another node).
[ -f "$out/build/Makefile" ] || cmake -S "$sources" -B "$out/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
  -DGGML_NATIVE=OFF -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
[ "$until" != configure ] || exit 0
cmake --build "$out/build" --target llama-server --parallel "${JOBS:-$(nproc)}"
[ "$until" != build ] || exit 0

[ -f "$out/random.gguf" ] || "$out/venv/bin/python" $here/random_llama.py "$out/random.gguf"

sed "s|FOLDER|$PWD/$out|" $here/engines.toml >"$out/engines.toml"

# Before whatever else runs here, if that is allowed: what others take is in no model. Not by `nice`, which counts within
# a session only.
first=(chrt --rr 1)
"${first[@]}" true 2>/dev/null || first=()
# Four slots share the context; nothing is kept from one request for the next.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${first[@]}" taskset --cpu-list "${CORE:-0}" "$server" --model "$out/random.gguf" --alias random-llama \
  --host 127.0.0.1 --port "$port" --threads 1 --threads-batch 1 --parallel 4 --ctx-size 4096 --cache-ram 0 \
  --log-file "$out/server.log" >"$out/server.out" 2>&1 &
pid=$!
stop() {
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}
trap stop EXIT

meters=(--meters rapl) power=()
if ! cat /sys/class/powercap/*/energy_uj >/dev/null 2>&1; then
  echo "e2e-llama: no readable RAPL here: energy is taken from ${WATTS:=20} W that nobody measured" >&2
  meters=(--runtime-only) power=(--assume-power "cpu=$WATTS")
fi
rm -f "$out"/samples.csv*
"${first[@]}" "$jouleplan" profile --endpoint "http://127.0.0.1:$port" --model random-llama --precision fp16 --device cpu \
  --grid-input 16,64,128,256,512 --grid-output 8,16,32,64,128 --batch 1,4 --max-trials 8 --ready-within 2min \
  "${meters[@]}" --out "$out/samples.csv" --json >"$out/profile.json"
stop

python3 $here/hold_out.py "$out/samples.csv" "$out/fitted.csv" "$out/left_out.csv"
"$jouleplan" fit "$out/fitted.csv" --engines "$out/engines.toml" "${power[@]}" --out "$out/models.json"
"$jouleplan" evaluate --models "$out/models.json" "$out/left_out.csv"
"$jouleplan" evaluate --models "$out/models.json" "$out/left_out.csv" --json >"$out/evaluation.json"
python3 $here/judge.py "$out/profile.json" "$out/evaluation.json"

slurm=true
for program in sbatch slurmctld slurmd slurmdbd munged mariadbd; do
  command -v "$program" >/dev/null || slurm=false
done
if [ "$(id -u)" = 0 ] && $slurm; then
  "${first[@]}" python3 $here/on_slurm.py "$out" "$server" "$jouleplan" "${WATTS:-20}"
elif [ -n "${JOULEPLAN_REQUIRE_SLURM:-}" ]; then
  echo "e2e-llama: a Slurm of its own needs root and Debian's packages" >&2
  exit 1
else
  echo "e2e-llama: SKIPPED on Slurm: that needs root and Debian's packages; the plan was not tried" >&2
fi
