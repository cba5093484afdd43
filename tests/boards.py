"""Boards to measure on: pythons with what a test wants them to have, or to lack, or to do."""

import site
import subprocess
import sys


def bare_python(folder):
    """Return a Python without any package, and its folder of packages, in which a test puts what it wants."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", packages


def strange_python(folder, strangeness):
    """Return a Python with the packages of this one, which runs the code ``strangeness`` when it starts."""
    python, packages = bare_python(folder)
    here = [*site.getsitepackages(), site.getusersitepackages()]
    lines = ["import sys", f"sys.path += {here!r}", "arguments = sys.orig_argv[1:]"]
    (packages / "sitecustomize.py").write_text("\n".join([*lines, strangeness]))
    return python


# What keeps the folder is left alone: the runtime would leave a file of its own in the folder of temporary files.
OTHER_VERSION = """
if arguments[:1] != ["-B"]:
    import onnxruntime
    onnxruntime.__version__ = "1.2.3"
"""

# The second model takes more than there is.
KILLS_THE_SECOND_MODEL = """
if "--stage" in arguments:
    import onnxruntime, os
    opened = onnxruntime.InferenceSession

    def session(path, *others, **options):
        if "model-1" in str(path):
            os.kill(os.getpid(), 9)
        return opened(path, *others, **options)

    onnxruntime.InferenceSession = session
"""

# What measures ends as soon as it is asked for two threads.
KILLS_THE_PROBE_ON_TWO_THREADS = """
if arguments[:1] == ["probe.py"] and "--stage" not in arguments:
    import json, os
    if json.load(open(arguments[1]))["cases"][0]["threads"] == 2:
        print("out of memory, says the board", flush=True)
        os.kill(os.getpid(), 9)
"""

# Outputs are a quarter larger there.
ANOTHER_PROCESSOR = """
if "--stage" in arguments:
    import numpy
    save = numpy.savez
    numpy.savez = lambda file, *arrays: save(file, *(array * numpy.float32(1.25) for array in arrays))
"""

LIES = """
if arguments[:1] == ["probe.py"] and "--stage" not in arguments:
    import json, os
    os.makedirs("result", exist_ok=True)
    json.dump({"environment": {}, "cases": [{"models": 3}]}, open("result/result.json", "w"))
    os._exit(0)
"""
