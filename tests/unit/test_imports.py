"""Rules about imports that import-linter cannot check, because its wildcards stand for whole names only."""

import grimp


def test_no_module_imports_a_test_module() -> None:
    graph = grimp.build_graph("tests", cache_dir=None)
    importers = {name: graph.find_modules_that_directly_import(name) for name in graph.modules}

    assert "tests.tools.benchmarks.scale" in importers["tests.simulation.town"]
    tests = {name: by for name, by in importers.items() if name.rpartition(".")[2].startswith("test_")}
    assert {name: by for name, by in tests.items() if by} == {}
