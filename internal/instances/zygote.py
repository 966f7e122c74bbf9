# What a zygote runs, sent to it by the loader: it imports what the function's program
# would, and then forks an instance whenever the loader asks for one. The command is
#
#   python3 [OPTIONS] -c 'read this' KIND TARGET [ARGUMENTS]
#
# KIND is script, -m or -c, and TARGET what stands behind it. The zygote has one capability,
# CAP_SYS_ADMIN, in a user namespace where it can do nothing but make namespaces and mounts;
# an instance gives it up before any of the program runs.
#
# 3 is the socket to the loader, of packets: an order comes, reports go. Each instance
# has a socket of its own, by which the kernel says which process it is.
import ast
import ctypes
import fcntl
import gc
import importlib.machinery
import importlib.util
import json
import os
import random
import socket
import stat
import sys
import threading
import traceback
import types
import warnings

CONTROL = 3

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """Why there is no zygote, in a line."""


def call(what, name, *arguments):
    """Calls a function of libc by name; what it was to do is said where it fails."""
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(0, "%s: %s" % (what, os.strerror(ctypes.get_errno())))


# What is imported.

def source(kind, target):
    """The text of the program, and the package that it is in."""
    if kind == "-c":
        return target, None
    if kind == "script":
        with open(target, "rb") as f:
            return f.read(), None
    spec = importlib.util.find_spec(target)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(target + ".__main__")
    if spec is None or not spec.has_location:
        raise Refused("there is no module %s to run" % target)
    with open(spec.origin, "rb") as f:
        return f.read(), spec.parent


def beginning(text, package):
    """The imports that the program begins with, up to its first other statement: they are done
    first in any case, whatever else the program does."""
    body = ast.parse(text).body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # what it is for
    for node in body:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, []
        elif isinstance(node, ast.ImportFrom):
            if node.module == "__future__":
                continue
            name = node.module or ""
            if node.level:
                name = importlib.util.resolve_name("." * node.level + name, package)
            yield name, [n.name for n in node.names if n.name != "*"]
        else:
            return


def imports(names, kind, target):
    """What to import: those named, or those that the program begins with."""
    try:
        text, package = source(kind, target)
        found = list(beginning(text, package))
    except Refused:
        raise
    except Exception as e:  # a program that is none fails by itself, too
        raise Refused("its program cannot be read: %s" % line(e))
    return found if names is None else [(name, []) for name in names]


def line(e):
    """An exception in a line."""
    text = " ".join(str(e).split())
    return type(e).__name__ + (": " + text if text else "")


def load(name, of):
    """Imports a module, and modules of it."""
    try:
        module = importlib.import_module(name)
        for part in of:
            if not hasattr(module, part):
                importlib.import_module(name + "." + part)
    except BaseException as e:
        traceback.print_exc()
        raise Refused("import of %s: %s" % (name, line(e)))


def stands_alone(kind, target):
    """Has modules see the program that they would."""
    main = types.ModuleType("__main__")
    if kind == "script":
        path = os.path.abspath(target)
        main.__file__, main.__cached__ = path, None
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    sys.argv = [target if kind == "script" else kind] + sys.argv[3:]
    if hasattr(sys, "orig_argv"):
        at = sys.orig_argv.index("-c")
        rest = [target] if kind == "script" else [kind, target]
        sys.orig_argv = sys.orig_argv[:at] + rest + sys.argv[1:]
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        where = {"script": os.path.dirname(os.path.realpath(target)), "-m": os.getcwd(), "-c": ""}
        sys.path[0] = where[kind]
    return main


# What instances must not share.

def descriptors():
    """What is open, beside stdin, stdout, stderr and the socket."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > CONTROL:
                found[int(name)] = os.fstat(int(name))
        except OSError:
            pass  # it was of the listing itself
    return found


def unshared():
    """Files that imports have opened and instances open for themselves; whatever cannot be had
    twice is an error."""
    if len(sys._current_frames()) > 1:
        names = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
        raise Refused("an import has started a thread (%s), which no fork has" % ", ".join(names))
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass  # it has ended
        raise Refused("an import has started a process")
    except ChildProcessError:
        pass
    with open("/proc/self/maps") as maps:
        for text in maps:
            if text.split()[1] == "rw-s":
                raise Refused("an import has made memory that instances would share")
    files = []
    for fd, st in descriptors().items():
        if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode) or stat.S_ISCHR(st.st_mode)):
            what = os.readlink("/proc/self/fd/%d" % fd)
            raise Refused("an import has left %s open, which instances would share" % what)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if stat.S_ISREG(st.st_mode) and st.st_nlink == 0 and flags & os.O_ACCMODE != os.O_RDONLY:
            raise Refused("an import has left a file without a name open to write, which instances would share")
        files.append((fd, flags, os.get_inheritable(fd)))
    return files


def reopen(files):
    """Opens what imports have opened anew, at the same places."""
    for fd, flags, inheritable in files:
        own = os.open("/proc/self/fd/%d" % fd, flags & ~os.O_NOFOLLOW)
        if stat.S_ISREG(os.fstat(own).st_mode):
            os.lseek(own, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
        os.dup2(own, fd, inheritable)
        os.close(own)


def status(path):
    """That of a file, or of the archive that it is in."""
    while True:
        try:
            return os.stat(path)
        except NotADirectoryError:
            path = os.path.dirname(path)


def stamp(path):
    st = status(path)
    return st.st_mtime_ns, st.st_size, st.st_ino


def stamps(began):
    """The files that modules are from, and what tells whether they are still the same. began
    is before any was read: nobody knows what was read of one that has changed since."""
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and getattr(module, "__name__", "") != "__main__":
            try:
                found[path], when = stamp(path), status(path).st_ctime_ns
            except OSError:
                continue  # made up
            if when > began:
                raise Refused("%s has changed while modules were imported" % path)
    return found


def changed(files):
    """A file that is another one than it was; None: all are the same."""
    for path, was in files.items():
        try:
            if stamp(path) != was:
                return path
        except OSError:
            return path
    return None


# An instance.

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 47, 4
CAPABILITIES_3 = 0x20080522


def mount(kind, where, flags, options):
    call("mount " + where, "mount", kind, where.encode(), kind, ctypes.c_ulong(flags), options)


def files_of_its_own(read_only):
    """Mounts what the stage does (internal/instances/stage): this is another PID namespace."""
    mount(b"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | (MS_RDONLY if read_only else 0), None)
    for where in ("/tmp", "/var/tmp", "/dev/shm") if read_only else ():
        if os.path.isdir(where):
            mount(b"tmpfs", where, MS_NOSUID | MS_NODEV, b"mode=1777")


def give_up():
    """Gives up the capability, for good."""
    call("give up privileges", "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    call("give up privileges", "capset", header, (ctypes.c_uint32 * 6)())


def reseed():
    """No two instances draw the same numbers. What has generators of its own registers with
    os.register_at_fork."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def fork():
    """Forks; that a library has threads is its affair, as it is where multiprocessing forks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def told(hop):
    """Says which process this is, and waits until the loader has done its part."""
    hop.send(b"{}")
    if not hop.recv(1):
        os._exit(0)  # it has given up, or is gone


def become(control, hop, out, err, files, read_only):
    """Makes this process, a fork of the zygote, the instance. It is reparented to the first
    process of the zygote's PID namespace, which says how it has ended: it outlives the zygote."""
    try:
        call("namespaces", "unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
        told(hop)
        if fork() != 0:
            os._exit(0)
        os.setsid()
        files_of_its_own(read_only)
        give_up()
        os.dup2(out, 1)
        os.dup2(err, 2)
        reopen(files)
        own = {fd for fd, _, _ in files} | {hop.fileno()}
        os.close(control.detach())
        for fd in descriptors():
            if fd not in own:
                try:
                    os.close(fd)
                except OSError:
                    pass  # it was of the listing itself
        reseed()
        told(hop)
        hop.close()
    except BaseException as e:
        hop.send(json.dumps({"failed": line(e)[:1000]}).encode())
        os._exit(1)


def serve(control, files, read_only, sources):
    """Forks instances until the loader wants no more; returns in each of them."""
    while True:
        asked, passed, _, _ = socket.recv_fds(control, 64, 3)
        if not asked:
            os._exit(0)
        other = changed(sources)
        if other is not None:
            control.send(json.dumps({"changed": other[:1000]}).encode())
            os._exit(0)
        hop = socket.socket(fileno=passed[0])
        sys.stdout.flush()
        sys.stderr.flush()
        child = fork()
        if child == 0:
            return become(control, hop, passed[1], passed[2], files, read_only)
        hop.close()
        os.close(passed[1])
        os.close(passed[2])
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # an import sees to its children otherwise


def program(kind, target, main):
    """What runs the function's program in the instance, as the interpreter does."""
    if kind == "-m":
        import runpy
        return lambda: runpy._run_module_as_main(target)

    def run():
        text = target
        if kind == "script":
            with open(target, "rb") as f:
                text = f.read()
        exec(compile(text, target if kind == "script" else "<string>", "exec", dont_inherit=True), main.__dict__)
    return run


def zygote():
    """Imports, and then forks; returns what to run, in an instance."""
    control = socket.socket(fileno=CONTROL)
    try:
        order = json.loads(control.recv(1 << 16))
        if sys.version_info < (3, 9):
            raise Refused("Python %d.%d forks no instances, 3.9 does" % sys.version_info[:2])
        kind, target = sys.argv[1:3]
        main = stands_alone(kind, target)
        for name, of in imports(order["imports"], kind, target):
            control.send(json.dumps({"importing": name}).encode())
            load(name, of)
        files, sources = unshared(), stamps(order["began"])
        run = program(kind, target, main)
        call("leave orphans alone", "prctl", PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        gc.collect()
        gc.freeze()  # nothing looks at it again, and so it stays shared
        control.send(json.dumps({"ready": True}).encode())
    except BaseException as e:
        control.send(json.dumps({"failed": (str(e) if isinstance(e, Refused) else line(e))[:1000]}).encode())
        sys.stderr.flush()
        os._exit(1)
    serve(control, files, order["read_only"], sources)
    return run


zygote()()
