# SPDX-License-Identifier: Apache-2.0
"""The house rules that no linter checks. A rule takes modules and returns its offenders.

Each rule is tested twice: on the tree, where it finds none, and on a few lines where it finds one.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tracker_worker"

MODULE_LINES = 400
FUNCTION_LINES = 60
PUBLIC_METHODS = 15
EXCEPTION_CLASSES = 15
SPDX = "# SPDX-License-Identifier: Apache-2.0"

# The client has one method a command: its length is the interface's.
MANY_METHODS_ALLOWED = {f"{PACKAGE}/rpcapi.py"}
GLOBAL_CONF_ALLOWED = (f"{PACKAGE}/conf/", f"{PACKAGE}/cmd/", f"{PACKAGE}/nova/")
PRIVATE_APIS = (
    f"{PACKAGE}/private_apis/",
    f"{PACKAGE}/nova/private_apis.py",
    f"{PACKAGE}/nova/replace.py",
    f"{PACKAGE}/nova/worker_claims.py",
)
"""Where names that are private to a library may be used; in nova/ those of Nova."""
WITHOUT_PUBLIC_BASES = {"amqp", "kombu", "oslo_messaging"}
"""Libraries whose classes are not made to be derived from: whoever does overrides what is private."""
PUBLIC_ALL_THE_SAME = {"_mapping"}
"""Of SQLAlchemy's rows: the underscore keeps the names of columns free."""
ENVELOPE = f"{PACKAGE}/core/envelope.py"
ENVELOPE_KEYS = {"oslo.message", "oslo.version", "_unique_id", "_msg_id", "_reply_q", "_context_request_id"}
LOCKS = {"Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "lockutils"}
LOUD = {"warning", "error", "critical"}
HOME_MADE_WORDS = {
    "aftermath", "blame", "blamed", "calm", "deaths", "doubts", "fate", "heard", "judge", "killer", "mend",
    "mended", "misplaced", "nobody", "patience", "plugged", "resting", "roomy", "told", "touched", "verdict",
}  # fmt: skip
"""Words that stood for a term of AMQP's, SQL's or Nova's; doc/source/glossary.rst has the terms."""
RIDDLES = HOME_MADE_WORDS - {"killer"} | {
    "died",
    "dies",
    "gone",
    "hears",
    "knows",
    "rests",
    "tells",
    "whoever",
}
"""Words that do not say, in the help of an option, who does what. (The OOM killer is Linux's.)"""
WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
TABLE_NAMES = {"TOUCHED"}
VAGUE_NAMES = {"base", "common", "helper", "helpers", "manager", "util", "utils"}
IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "socket",
    "subprocess",
    "threading",
    "time",
}
DOMAIN = f"{PACKAGE}.domain"
DOMAIN_IMPORTS = (sys.stdlib_module_names - IMPURE) | {
    "immutables",
    "msgspec",
    "os_resource_classes",
    "os_traits",
}


@dataclass(frozen=True)
class Module:
    """A source file: its path from the project's root, and its text."""

    path: str
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))

    def all(self, *kinds: type) -> Iterator[Any]:
        return (node for node in self.nodes if isinstance(node, kinds))

    def at(self, node: Any, what: str) -> str:
        return f"{self.path}:{node.lineno}: {what}"


Rule = Callable[[Iterable[Module]], list[str]]


@cache
def read(directory: str) -> tuple[Module, ...]:
    """Once for all rules: parsing the tree takes longer than a rule."""
    files = sorted((ROOT / directory).rglob("*.py"))
    return tuple(Module(str(file.relative_to(ROOT)), file.read_text("utf-8")) for file in files)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def long_modules(modules: Iterable[Module]) -> list[str]:
    sizes = [(module.path, len(module.text.splitlines())) for module in modules]
    return [f"{path}: {lines} lines" for path, lines in sizes if lines > MODULE_LINES]


def long_functions(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"{node.name} has {lines} lines")
        for module in modules
        for node in module.all(*FUNCTIONS)
        if (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES
    ]


def wide_classes(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"{node.name} has {len(methods)} public methods")
        for module in modules
        if module.path not in MANY_METHODS_ALLOWED
        for node in module.all(ast.ClassDef)
        if len(methods := public_functions(node.body)) > PUBLIC_METHODS
    ]


def locks(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, name)
        for module in modules
        for node in module.all(ast.Name, ast.Attribute, ast.alias)
        for name in sorted(names_in(node) & LOCKS)
    ]


def queues_of_one(modules: Iterable[Module]) -> list[str]:
    """A queue with room for one thing is a lock: whoever has the thing holds it."""
    return [
        module.at(node, "a queue of one")
        for module in modules
        for node in module.all(ast.Call)
        if re.search(r"\bQueue\b", ast.unparse(node.func))
        and "1" in [ast.unparse(value) for value in (*node.args, *(each.value for each in node.keywords))]
    ]


def impure_domain(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"imports {name}")
        for module in modules
        if module.path.startswith(f"{PACKAGE}/domain/")
        for node in module.all(ast.Import, ast.ImportFrom)
        for name in imported(node)
        if not (name.split(".")[0] in DOMAIN_IMPORTS or f"{name}.".startswith(f"{DOMAIN}."))
    ]


def global_conf(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, "the global CONF")
        for module in modules
        if not module.path.startswith(GLOBAL_CONF_ALLOWED)
        for node in module.all(ast.Attribute, ast.alias)
        if "CONF" in names_in(node)
    ]


def private_apis(modules: Iterable[Module]) -> list[str]:
    """A private name belongs to the module that defines it; those of libraries have one room."""
    return [
        module.at(node, what)
        for module in modules
        if not module.path.startswith(PRIVATE_APIS)
        for node in module.all(ast.Attribute, ast.Call, ast.Import, ast.ImportFrom, ast.ClassDef)
        for what in private_uses(module, node)
    ]


def private_uses(module: Module, node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name) if is_private(name):
            yield f"super().{name}"
        case ast.Attribute(value=value, attr=name) if is_private(name):
            own = ast.unparse(value) in ("self", "cls") or name in private_names_of(module)
            if not own and name not in PUBLIC_ALL_THE_SAME:
                yield name
        case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"), args=args):
            constants = [each.value for each in args[1:2] if isinstance(each, ast.Constant)]
            yield from (name for name in constants if isinstance(name, str) and is_private(name))
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            parts = ".".join([*imported(node), *(alias.name for alias in names)]).split(".")
            yield from filter(is_private, parts)
        case ast.ClassDef(bases=bases):
            for base in bases:
                library = imported_names(module).get(ast.unparse(base).split(".")[0], "").split(".")[0]
                if library in WITHOUT_PUBLIC_BASES:
                    yield f"derives from {ast.unparse(base)}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of(module: Module) -> set[str]:
    """The private names that a module's own classes have: set on self, or defined in their bodies."""
    set_on_self = {
        node.attr
        for node in module.all(ast.Attribute)
        if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    return set_on_self | {node.name for node in module.all(*FUNCTIONS)}


def imported_names(module: Module) -> dict[str, str]:
    """From where the names come that a module imports."""
    found = {}
    for node in module.all(ast.Import, ast.ImportFrom):
        for alias in node.names:
            source = alias.name if isinstance(node, ast.Import) else node.module or ""
            found[(alias.asname or alias.name).split(".")[0]] = source
    return found


def envelope_keys(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, node.value)
        for module in modules
        if module.path != ENVELOPE and not module.path.startswith(PRIVATE_APIS)
        for node in module.all(ast.Constant)
        if node.value in ENVELOPE_KEYS
    ]


def vague_modules(modules: Iterable[Module]) -> list[str]:
    return [
        module.path
        for module in modules
        if VAGUE_NAMES & set(PurePosixPath(module.path).with_suffix("").parts)
    ]


def home_made_names(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"{name} has the word {word}")
        for module in modules
        if "/migrations/" not in module.path
        for node in module.all(*FUNCTIONS, ast.ClassDef, ast.arg, ast.Name, ast.Attribute)
        for name in defined_by(node)
        for word in sorted(words_of(name) & HOME_MADE_WORDS)
        if not any(table in name for table in TABLE_NAMES)
    ]


def riddling_help(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"the help has the word {word}")
        for module in modules
        if module.path.startswith(f"{PACKAGE}/conf/")
        for node in module.all(ast.keyword)
        if node.arg == "help"
        for word in sorted(words_of(ast.unparse(node.value)) & RIDDLES)
    ]


def defined_by(node: ast.AST) -> list[str]:
    """The names that a node gives to something."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name):
            return [name]
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case _:
            return []


def words_of(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}


def undocumented(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(node, f"{name} has no docstring") if name else f"{module.path}: no docstring"
        for module in modules
        for node, name in public_names(module)
        if not ast.get_docstring(node)
    ]


def unlicensed(modules: Iterable[Module]) -> list[str]:
    return [module.path for module in modules if module.text.split("\n", 1)[0] != SPDX]


def exceptions_without_code(modules: Iterable[Module]) -> list[str]:
    codes = [(module, node, code_of(node)) for module, node in exception_classes(modules)]
    values = [code for _, _, code in codes]
    return [
        module.at(node, f"{node.name} has no code" if code is None else f"{code} is not unique")
        for module, node, code in codes
        if code is None or values.count(code) > 1
    ]


def too_many_exceptions(modules: Iterable[Module]) -> list[str]:
    names = [node.name for _, node in exception_classes(modules)]
    return names if len(names) >= EXCEPTION_CLASSES else []


def doubled_errors(modules: Iterable[Module]) -> list[str]:
    return [
        module.at(call, f"says {handler.name} twice: oslo.log adds the error that is being handled")
        for module in modules
        for handler in module.all(ast.ExceptHandler)
        for call in ast.walk(handler)
        if isinstance(call, ast.Call) and is_loud_log(call.func) and handler.name in variables_in(call)
    ]


def is_loud_log(function: ast.expr) -> bool:
    """Whether a function is LOG.warning or louder; LOG.exception shows the error once, with its traceback."""
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "LOG"
        and function.attr in LOUD
    )


def variables_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def public_functions(body: Iterable[ast.stmt]) -> list[ast.stmt]:
    return [node for node in body if isinstance(node, FUNCTIONS) and not node.name.startswith("_")]


def names_in(node: ast.Name | ast.Attribute | ast.alias) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    return {node.attr} if isinstance(node, ast.Attribute) else set(node.name.split("."))


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The full names; what a relative import reaches stays as dots, which no rule allows."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.module == PACKAGE:
        return [f"{PACKAGE}.{alias.name}" for alias in node.names]
    return ["." * node.level + (node.module or "")]


def public_names(module: Module) -> Iterator[tuple[Any, str]]:
    tree = next(module.all(ast.Module))
    yield tree, ""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node, node.name


def exception_classes(modules: Iterable[Module]) -> Iterator[tuple[Module, ast.ClassDef]]:
    for module in modules:
        if module.path == f"{PACKAGE}/exceptions.py":
            yield from ((module, node) for node in module.all(ast.ClassDef))


def code_of(node: ast.ClassDef) -> str | None:
    """The source of what is assigned to `code`: a string, or a member of an enumeration."""
    for statement in node.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="code")], value=value)
                | ast.AnnAssign(target=ast.Name(id="code"), value=value)
            ) if isinstance(value, ast.Constant | ast.Attribute):
                return ast.unparse(value)
    return None


TREE_RULES: dict[Rule, str] = {
    long_modules: f"modules of more than {MODULE_LINES} lines",
    long_functions: f"functions of more than {FUNCTION_LINES} lines",
    wide_classes: f"classes of more than {PUBLIC_METHODS} public methods",
    locks: "one writer a node: no locks",
    queues_of_one: "one writer a node: no locks, in disguise either",
    impure_domain: "the domain imports the pure part of the standard library and itself",
    global_conf: "options are passed in, not read from the global CONF",
    private_apis: f"what is private to a library is used in {' and '.join(PRIVATE_APIS)} alone",
    envelope_keys: f"the keys of oslo.messaging's envelope are written in {ENVELOPE} alone",
    vague_modules: "module names that say nothing",
    home_made_names: "names with a word of our own where the field has a term",
    riddling_help: "help of options that does not say who does what",
    undocumented: "public names without a docstring",
    unlicensed: f"files whose first line is not {SPDX!r}",
    doubled_errors: "errors that a log line says and oslo.log adds",
    exceptions_without_code: "every exception has a code of its own",
    too_many_exceptions: f"exceptions.py has {EXCEPTION_CLASSES} classes or more",
}


def offenders(rule: Rule, modules: Iterable[Module]) -> str:
    found = rule(modules)
    return f"{TREE_RULES[rule]}:\n  " + "\n  ".join(found) if found else ""


def test_the_tree_is_read() -> None:
    assert f"{PACKAGE}/exceptions.py" in [module.path for module in read(PACKAGE)]
    assert "tests/unit/test_house_rules.py" in [module.path for module in read("tests")]


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    message = offenders(rule, read(PACKAGE))
    assert not message, message


def test_tests_are_licensed() -> None:
    message = offenders(unlicensed, read("tests"))
    assert not message, message


SAYS_THE_ERROR = "try: x\nexcept E as error:\n    LOG.{}('lost: %s', str(error))"
METHODS = "".join(f"    def method{i}(self): pass\n" for i in range(PUBLIC_METHODS + 1))
CLASSES = "".join(f"class E{i}(Exception): pass\n" for i in range(EXCEPTION_CLASSES))


@pytest.mark.parametrize(
    ("rule", "path", "text", "found"),
    [
        (long_modules, "any.py", "\n" * 401, "any.py: 401 lines"),
        (long_functions, "any.py", "def f():\n" + "    1\n" * 60, "any.py:1: f has 61 lines"),
        (long_functions, "any.py", "async def f():\n" + "    1\n" * 60, "f has 61 lines"),
        (wide_classes, "any.py", f"class Wide:\n{METHODS}", "Wide has 16 public methods"),
        (locks, "any.py", "import threading\nheld = threading.RLock()", "any.py:2: RLock"),
        (locks, "any.py", "from threading import Condition as Signal", "any.py:1: Condition"),
        (locks, "any.py", "from oslo_concurrency import lockutils", "any.py:1: lockutils"),
        (queues_of_one, "any.py", "held = queue.Queue(1)", "any.py:1: a queue of one"),
        (queues_of_one, "any.py", "held = Queue[int](maxsize=1)", "any.py:1: a queue of one"),
        (impure_domain, f"{PACKAGE}/domain/any.py", "import os.path", "imports os.path"),
        (impure_domain, f"{PACKAGE}/domain/any.py", "from time import sleep", "imports time"),
        (impure_domain, f"{PACKAGE}/domain/any.py", "import sqlalchemy", "imports sqlalchemy"),
        (impure_domain, f"{PACKAGE}/domain/any.py", "from .. import db", "imports .."),
        (
            impure_domain,
            f"{PACKAGE}/domain/any.py",
            f"from {PACKAGE} import exceptions",
            f"imports {PACKAGE}.exceptions",
        ),
        (global_conf, f"{PACKAGE}/bus/any.py", "host = cfg.CONF.host", "any.py:1: the global"),
        (global_conf, f"{PACKAGE}/bus/any.py", "from oslo_config.cfg import CONF", "the global"),
        (private_apis, "any.py", "driver = transport._driver", "any.py:1: _driver"),
        (private_apis, "any.py", "getattr(message, '_reply_q', None)", "any.py:1: _reply_q"),
        (private_apis, "any.py", "class A:\n  def _f(self): super()._f()", "any.py:2: super()._f"),
        (private_apis, "any.py", "import oslo_messaging._drivers.common", "any.py:1: _drivers"),
        (private_apis, "any.py", "from oslo_messaging._drivers import amqp", "any.py:1: _drivers"),
        (private_apis, "any.py", "from oslo_messaging.transport import _transport_opts", "_transport_opts"),
        (private_apis, "any.py", "import amqp\nclass A(amqp.Connection): pass", "derives from amqp.Conn"),
        (
            private_apis,
            "any.py",
            "from oslo_messaging.transport import RPCTransport as T\nclass A(T): pass",
            "any.py:2: derives from T",
        ),
        (envelope_keys, "any.py", "{'oslo.message': text}", "any.py:1: oslo.message"),
        (vague_modules, f"{PACKAGE}/db/utils.py", "", f"{PACKAGE}/db/utils.py"),
        (vague_modules, f"{PACKAGE}/common/any.py", "", f"{PACKAGE}/common/any.py"),
        (home_made_names, "any.py", "def is_calm(): pass", "any.py:1: is_calm has the word calm"),
        (home_made_names, "any.py", "def f(told): pass", "any.py:1: told has the word told"),
        (home_made_names, "any.py", "class PoisonKiller: pass", "PoisonKiller has the word killer"),
        (home_made_names, "any.py", "self._roomy = True", "_roomy has the word roomy"),
        (riddling_help, f"{PACKAGE}/conf/any.py", "Opt('x', help='The worker dies.')", "has the word dies"),
        (undocumented, "any.py", "x = 1", "any.py: no docstring"),
        (undocumented, "any.py", '"""Doc."""\nclass Bare: x = 1', "any.py:2: Bare has no"),
        (undocumented, "any.py", '"""Doc."""\ndef bare(): pass', "any.py:2: bare has no"),
        (unlicensed, "any.py", '"""Doc."""\n', "any.py"),
        (doubled_errors, "any.py", SAYS_THE_ERROR.format("warning"), "any.py:3: says error twice"),
        (exceptions_without_code, f"{PACKAGE}/exceptions.py", "class E: x = 1", "E has no code"),
        (
            exceptions_without_code,
            f"{PACKAGE}/exceptions.py",
            "class A:\n    code = 'x'\nclass B(A):\n    code: str = 'x'",
            "exceptions.py:3: 'x' is not unique",
        ),
        (too_many_exceptions, f"{PACKAGE}/exceptions.py", CLASSES, "E14"),
    ],
)
def test_rule_finds_an_offender(rule: Rule, path: str, text: str, found: str) -> None:
    assert found in offenders(rule, [Module(path, text)])


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_modules, "any.py", "\n" * 400),
        (long_functions, "any.py", "def f():\n" + "    1\n" * 59),
        (doubled_errors, "any.py", SAYS_THE_ERROR.format("info")),
        (doubled_errors, "any.py", SAYS_THE_ERROR.replace("    LOG", "    x = error\nLOG").format("warning")),
        (wide_classes, f"{PACKAGE}/rpcapi.py", f"class Client:\n{METHODS}"),
        (wide_classes, "any.py", "class Narrow:\n" + METHODS.replace("method0", "_own")),
        (locks, "any.py", "import queue, threading\nthreading.Event()\nqueue.Queue(2)"),
        (queues_of_one, "any.py", "queue.Queue[int](prefetch)\nqueue.SimpleQueue()\nrange(1)"),
        (impure_domain, f"{PACKAGE}/bus/any.py", "import threading"),
        (
            impure_domain,
            f"{PACKAGE}/domain/any.py",
            f"import msgspec, zlib\nfrom {DOMAIN} import node\nfrom {PACKAGE} import domain",
        ),
        (global_conf, f"{PACKAGE}/cmd/any.py", "host = cfg.CONF.host"),
        (private_apis, f"{PRIVATE_APIS[0]}any.py", "driver = transport._driver"),
        (private_apis, "any.py", "row._mapping, self._own, cls._own, __name__, error.__cause__"),
        (private_apis, "any.py", "class A:\n  def f(self, other):\n    self._x = other._x"),
        (private_apis, "any.py", "from oslo_config import types\nclass A(types.Float): pass"),
        (envelope_keys, ENVELOPE, "{'oslo.message': text}"),
        (home_made_names, "any.py", "is_warm = other.told"),
        (home_made_names, "any.py", "_ADD_TOUCHED = 1"),
        (riddling_help, f"{PACKAGE}/conf/any.py", "Opt('died', help='The worker crashes.')"),
        (undocumented, "any.py", '"""Doc."""\ndef _own(): pass'),
        (
            exceptions_without_code,
            f"{PACKAGE}/exceptions.py",
            "class A:\n    code = 'a'\nclass B(A):\n    code: str = 'b'",
        ),
    ],
)
def test_rule_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert offenders(rule, [Module(path, text)]) == ""
