"""Runs a module as the program, as `python -m` does. Arguments: the module, then the program's own."""

import runpy

sys.argv = sys.argv[1:]  # `sys` is imported by the line before this script, which names the place of the modules
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
