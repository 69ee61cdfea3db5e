#!/usr/bin/env python3
"""A real, throw-away Slurm on the loopback interface of one machine, for tests: root, no systemd, no cgroups, no GPUs.

usage: bed.py FOLDER SPEC.json     with {"database": bool, "nodes": [{"prefix", "count", "cpus", "sockets", "memory_mib",
                                   "gres", "features", "cloud": false}]}

Prints `ready`, or why not, then obeys lines on stdin and answers each with a line:
  watts NODE W          what a node draws from now on
  joules NODE           what it has drawn since the start
  stop|start|restart DAEMON   slurmctld or slurmd.NODE
End of input, which also comes when whoever started this dies, stops every daemon by its
process id, and every process that a job left. Energy is scripted twice: in a model-specific register that Slurm's RAPL
plugin reads, as a file in a mount namespace of each slurmd, and in a powercap tree that JOULEPLAN_SYSFS_ROOT names in
every job, with a folder for a scripted NVML beside it. Names of nodes are not looked up: all have the loopback address
and a port of their own. Nodes of a cloud are powered down and never come up: as many as one likes, for submissions that
need not run.
"""
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

ENERGY_UNIT = 16  # joules are counted in 2^-16 J
WRAP_UJ = 262143328850
DEADLINE_S = 30


def free_ports(count):
    """Below the range from which outgoing connections take theirs; all tested at once, so none comes twice."""
    held, ports = [], []
    while len(ports) < count:
        port = random.randrange(15000, 32000)
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.close()
            continue
        held.append(probe)
        ports.append(port)
    for probe in held:
        probe.close()
    return ports


class Energy(threading.Thread):
    """Counters of every node that run at the power last said."""

    def __init__(self, folder, names):
        super().__init__(daemon=True)
        self.folder, self.lock = folder, threading.Lock()
        self.watts = {name: 200.0 for name in names}
        self.joules = {name: 0.0 for name in names}
        self.at, self.files = time.monotonic(), {}
        for name in names:
            registers = os.open(self.registers(name), os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(registers, 0x2000)
            os.pwrite(registers, struct.pack("<Q", (10 << 16) | (ENERGY_UNIT << 8) | 3), 0x606)
            zone = os.path.join(self.sysfs(name), "class/powercap/intel-rapl:0")
            os.makedirs(zone)
            for file, text in [("name", "package-0"), ("max_energy_range_uj", str(WRAP_UJ))]:
                with open(os.path.join(zone, file), "w") as out:
                    out.write(text + "\n")
            counter = os.open(os.path.join(zone, "energy_uj"), os.O_RDWR | os.O_CREAT, 0o644)
            self.files[name] = (registers, counter)
        self.tick()

    def registers(self, name):
        return os.path.join(self.folder, "msr." + name)

    def sysfs(self, name):
        return os.path.join(self.folder, "sysfs." + name)

    def tick(self):
        with self.lock:
            now = time.monotonic()
            for name, (registers, counter) in self.files.items():
                self.joules[name] += self.watts[name] * (now - self.at)
                joules = self.joules[name]
                os.pwrite(registers, struct.pack("<Q", int((1 + joules) * (1 << ENERGY_UNIT)) & 0xFFFFFFFF), 0x611)
                # One write of constant length: a reader never sees half a number.
                os.pwrite(counter, b"%015d\n" % (int(joules * 1e6) % WRAP_UJ), 0)
            self.at = now

    def run(self):
        while True:
            time.sleep(0.02)
            self.tick()

    def set(self, name, watts):
        self.tick()
        with self.lock:
            self.watts[name] = watts


class Bed:
    def __init__(self, folder, spec):
        self.folder, self.database = folder, spec["database"]
        self.groups = spec["nodes"]
        self.names = ["%s%d" % (g["prefix"], k + 1) for g in self.groups if not g.get("cloud") for k in range(g["count"])]
        ports = free_ports(4 + len(self.names))
        self.ctld_port, self.slurmd_port, self.dbd_port, self.db_port = ports[:4]
        self.ports = dict(zip(self.names, ports[4:]))
        self.host = socket.gethostname().split(".")[0]
        self.running, self.commands = {}, {}
        for name in ["etc", "log", "run", "munge", "state", "dev"]:
            os.makedirs(self.path(name))
        os.chmod(folder, 0o755)
        self.conf = self.path("etc/slurm.conf")
        # Marks every process of this bed, also those that jobs leave behind.
        self.environment = dict(os.environ, SLURM_CONF=self.conf, JOULEPLAN_BED=folder)
        for name in list(self.environment):
            if name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF":
                del self.environment[name]
        self.energy = Energy(self.path("dev"), self.names)

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, name):
        log = open(self.path("log/%s.out" % name), "ab")
        self.running[name] = subprocess.Popen(
            self.commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
            cwd=self.path("run"), start_new_session=True)

    def daemon(self, name, command):
        self.commands[name] = command
        self.start(name)

    def stop(self, name, patience=5.0):
        process = self.running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def call(self, *command):
        return subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=10, universal_newlines=True)

    def wait_for(self, what, condition):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except subprocess.TimeoutExpired:
                pass
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise RuntimeError("%s ended: %s" % (name, self.tail(name)))
            time.sleep(0.05)
        raise RuntimeError("%s is not there after %d s: %s" % (what, DEADLINE_S, self.tail("slurmctld")))

    def tail(self, name):
        try:
            with open(self.path("log/%s.out" % name), "rb") as log:
                return log.read()[-2000:].decode("utf-8", "replace")
        except OSError:
            return "it has no log"

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w") as out:
            out.write(text)
        os.chmod(self.path(name), mode)

    def up(self):
        self.munge()
        self.configure()
        if self.database:
            self.accounting()
        self.daemon("slurmctld", ["slurmctld", "-D", "-i", "-f", self.conf])
        self.wait_for("slurmctld", lambda: self.call("scontrol", "ping").returncode == 0)
        self.energy.start()
        for name in self.names:
            # A mount namespace of its own, in which /dev/cpu holds the scripted registers.
            script = ('mkdir -p /dev/cpu && mount -t tmpfs none /dev/cpu && for k in $(seq 0 "$1"); do '
                      'mkdir /dev/cpu/$k && ln -s "$2" /dev/cpu/$k/msr; done; shift 2; exec "$@"')
            self.daemon("slurmd." + name, [
                "unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str((os.cpu_count() or 1) - 1),
                self.energy.registers(name), "slurmd", "-D", "-N", name, "-f", self.conf])
        idle = lambda: set(self.call("sinfo", "-h", "-N", "-p", "all", "-t", "idle", "-o", "%N").stdout.split())
        self.wait_for("an idle node each", lambda: idle() >= set(self.names))

    def munge(self):
        self.write("munge/key", "", 0o600)
        with open(self.path("munge/key"), "wb") as key:
            key.write(os.urandom(128))
        for name in ["munge", "run", "log"]:
            os.chmod(self.path(name), 0o755)
        socket_path = self.path("run/munge.sock")
        self.daemon("munged", [
            "munged", "--foreground", "--force", "--key-file=" + self.path("munge/key"), "--socket=" + socket_path,
            "--pid-file=" + self.path("run/munged.pid"), "--log-file=" + self.path("log/munged.log"),
            "--seed-file=" + self.path("munge/seed")])
        self.wait_for("munged", lambda: self.call("munge", "-n", "--socket=" + socket_path).returncode == 0)

    def configure(self):
        nodes, gres, kinds, types, gpus, cpus, all_names = [], ["AutoDetect=off"], set(), set(), [], [], []
        gpus_of = {}
        for group in self.groups:
            cloud = group.get("cloud", False)
            names = ["%s%d" % (group["prefix"], k + 1) for k in range(group["count"])]
            if cloud:
                names = ["%s[1-%d]" % (group["prefix"], group["count"])]
            all_names.extend(names)
            (gpus if "gpu" in group["gres"] else cpus).extend(names)
            cores = group["cpus"] // group["sockets"]
            for name in names:
                where = "NodeAddr=127.0.0.1 NodeHostname=%s Port=%d State=UNKNOWN" % (self.host, self.ports.get(name, 0))
                nodes.append(
                    "NodeName=%s %s CPUs=%d Sockets=%d CoresPerSocket=%d ThreadsPerCore=1 RealMemory=%d %s Feature=%s" % (
                        name, "State=CLOUD" if cloud else where, group["cpus"], group["sockets"], cores,
                        group["memory_mib"], "Gres=" + group["gres"] if group["gres"] else "", group["features"]))
                for part in filter(None, group["gres"].split(",")):
                    words = part.split(":")
                    kind, count, of_type = words[0], int(words[-1]), "".join(words[1:-1])
                    kinds.add(kind)
                    line = "NodeName=%s Name=%s" % (name, kind)
                    if of_type:
                        line += " Type=" + of_type
                        types.add("gres/%s:%s" % (kind, of_type))
                    if kind == "gpu" and not cloud:
                        first = gpus_of.get(name, 0)
                        gpus_of[name] = first + count
                        for k in range(count):
                            file = self.path("dev/%s-nvidia%d" % (of_type, first + k))
                            if not os.path.exists(file):
                                # A character device as /dev/null is one: Slurm takes its number from the name.
                                os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
                        line += " File=%s[%d-%d]" % (self.path("dev/%s-nvidia" % of_type), first, first + count - 1)
                    else:
                        line += " Count=%d" % count
                    gres.append(line)
        store = ["AccountingStorageType=accounting_storage/none"]
        if self.database:
            store = ["AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1",
                     "AccountingStoragePort=%d" % self.dbd_port, "AccountingStoragePass=" + self.path("run/munge.sock"),
                     "AccountingStoreFlags=job_comment",
                     "AccountingStorageTRES=" + ",".join(["gres/gpu"] + sorted(types))]
        partitions = ["PartitionName=all Nodes=%s Default=YES" % ",".join(all_names)]
        if gpus:
            partitions.append("PartitionName=gpu Nodes=" + ",".join(gpus))
        if cpus:
            partitions.append("PartitionName=cpu Nodes=" + ",".join(cpus))
        lines = """ClusterName=bed
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ctld}
SlurmdPort={slurmd}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/run/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
TaskProlog={folder}/etc/task_prolog
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1,energy=1
AcctGatherEnergyType=acct_gather_energy/rapl
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_resolution=1,requeue_delay=1
PriorityType=priority/basic
InactiveLimit=0
KillWait=2
MinJobAge=3600
CompleteWait=0
SlurmctldTimeout=60
SlurmdTimeout=30
MaxJobCount=20000
""".format(host=self.host, ctld=self.ctld_port, slurmd=self.slurmd_port, folder=self.folder).splitlines()
        if kinds:
            lines.append("GresTypes=" + ",".join(sorted(kinds)))
        if any(group.get("cloud") for group in self.groups):
            lines += ["SuspendProgram=/bin/true", "ResumeProgram=/bin/true", "SuspendTime=3600", "ResumeTimeout=3600"]
        usual = " MaxTime=7-0 DefMemPerCPU=100 State=UP"
        lines += store + nodes + [partition + usual for partition in partitions]
        self.write("etc/slurm.conf", "\n".join(lines) + "\n")
        self.write("etc/gres.conf", "\n".join(gres) + "\n")
        self.write("etc/cgroup.conf", "CgroupPlugin=cgroup/v1\n")
        # Every task of a job finds the powercap tree of its node.
        self.write("etc/task_prolog", '#!/bin/sh\necho "export JOULEPLAN_SYSFS_ROOT=%s.$SLURMD_NODENAME"\n'
                   'echo "export FAKE_NVML=%s.$SLURMD_NODENAME"\n' % (self.path("dev/sysfs"), self.path("dev/nvml")), 0o755)

    def accounting(self):
        data, db_socket = self.path("db"), self.path("db/db.sock")
        os.mkdir(data)
        subprocess.run(["chown", "mysql:mysql", data], check=True)
        small = ["--innodb-log-file-size=4M", "--innodb-flush-method=nosync"]
        made = subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir=" + data, "--skip-test-db",
             "--auth-root-authentication-method=normal"] + small,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if made.returncode != 0:
            raise RuntimeError("mariadb-install-db: " + made.stdout[-1000:])
        self.daemon("mariadbd", [
            "mariadbd", "--no-defaults", "--user=mysql", "--datadir=" + data, "--socket=" + db_socket,
            "--pid-file=" + self.path("db/db.pid"), "--bind-address=127.0.0.1", "--port=%d" % self.db_port,
            "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"] + small)
        client = ["mariadb", "--no-defaults", "-uroot", "-S", db_socket, "-e"]
        self.wait_for("mariadbd", lambda: self.call(*client, "select 1").returncode == 0)
        self.call(*client, "create database slurm; create user slurm@'127.0.0.1' identified by 'bed'; "
                           "grant all on slurm.* to slurm@'127.0.0.1'")
        lines = ["AuthType=auth/munge", "AuthInfo=socket=" + self.path("run/munge.sock"), "DbdAddr=127.0.0.1",
                 "DbdHost=" + self.host, "DbdPort=%d" % self.dbd_port, "SlurmUser=root",
                 "LogFile=" + self.path("log/slurmdbd.log"), "PidFile=" + self.path("run/slurmdbd.pid"),
                 "StorageType=accounting_storage/mysql", "StorageHost=127.0.0.1", "StoragePort=%d" % self.db_port,
                 "StorageUser=slurm", "StoragePass=bed", "StorageLoc=slurm"]
        self.write("etc/slurmdbd.conf", "\n".join(lines) + "\n", 0o600)
        self.daemon("slurmdbd", ["slurmdbd", "-D"])
        self.wait_for("slurmdbd", lambda: self.call("sacctmgr", "-n", "show", "cluster").returncode == 0)
        for words in ["cluster bed", "account default", "user root account=default"]:
            self.call("sacctmgr", "-i", "add", *words.split())

    def down(self):
        if "slurmctld" in self.running:
            try:
                self.call("scancel", "--full", "--signal=KILL", "--user=root")
            except subprocess.TimeoutExpired:
                pass
        for name in reversed(list(self.running)):
            self.running[name].terminate()
        end = time.monotonic() + 5
        for name in reversed(list(self.running)):
            self.stop(name, max(0.1, end - time.monotonic()))
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def left(self):
        """Processes that carry this bed's mark in their environment and are not this one."""
        mark, found = ("JOULEPLAN_BED=" + self.folder).encode() + b"\0", []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    with open("/proc/%s/environ" % name, "rb") as environment:
                        if mark in environment.read() + b"\0":
                            found.append(int(name))
                except OSError:
                    pass
        return found

    def obey(self, line):
        words = line.split()
        if words[0] == "watts":
            self.energy.set(words[1], float(words[2]))
        elif words[0] == "joules":
            self.energy.tick()
            return "%.6f" % self.energy.joules[words[1]]
        elif words[0] in ("stop", "restart"):
            self.stop(words[1])
        if words[0] in ("start", "restart"):
            self.start(words[1])
            if words[1] == "slurmctld":
                # Within seconds it asks the nodes what they have. Not so where AcctGatherNodeFreq lets them say their power
                # more often than they are pinged: Slurm 22.05 then takes them for answered, and devices of jobs that ended
                # while it was away count as used until `scontrol reconfigure`.
                self.wait_for("slurmctld", lambda: self.call("scontrol", "ping").returncode == 0)
        return "ok"


def main():
    folder = os.path.abspath(sys.argv[1])
    with open(sys.argv[2]) as file:
        bed = Bed(folder, json.load(file))
    # A terminal's Ctrl-C reaches the whole process group; the pipe says when to stop. A handler, because what is ignored
    # would stay so in every daemon and job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        try:
            bed.up()
            answer = "ready"
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            answer = "failed: " + " ".join(str(error).split())
        print(answer, flush=True)
        for line in sys.stdin:
            try:
                print(bed.obey(line), flush=True)
            except (RuntimeError, KeyError, ValueError, IndexError) as error:
                print("failed: %s" % " ".join(str(error).split()), flush=True)
    except BrokenPipeError:
        pass
    finally:
        bed.down()
        if not os.environ.get("JOULEPLAN_KEEP_BED"):
            subprocess.run(["rm", "-rf", folder])


main()
