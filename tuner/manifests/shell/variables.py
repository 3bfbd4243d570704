"""What the variables of a shell text are at each of its commands. A value is known only where every way agrees on it.

A command changes variables for those behind it (bash's reference manual, 3.2 to 3.4 and 4): assignments in a branch,
in a list behind `&&` or `||`, in a loop or a function count where all ways that lead on agree; those in a subshell, a
pipeline or the background do not count at all. `read`, `printf -v`, `unset` and their like make a variable unknown,
and `source` and `eval` make all of them so.

A variable that the text does not set may come from the environment of whoever runs it, so that it is not known.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise, takewhile
from typing import NamedTuple

from tuner.manifests.shell.lexer import Command, Piece, Token

MAX_VALUE = 2**16
"""Characters of a value; a longer one is unknown. Linux takes twice as much in a word."""
MAX_ITEMS = 4096
"""Items of an array; a longer one is unknown."""
MAX_TOTAL = 2**22
"""Characters that all substitutions of a text make together; behind them no value is known."""
MAX_DEPTH = 100
"""Compound commands in one another. Behind a deeper one no value is known."""
MAX_EXPORTED = 200
"""Variables that are followed into the server's environment."""
_DECLARING = frozenset({"export", "readonly", "declare", "typeset", "local"})
_NAMING = _DECLARING | {"read", "mapfile", "readarray", "getopts", "printf", "wait", "unset", "let", "for", "select"}
"""Builtins, and keywords, that change the variables that are named behind them (bash's manual, 4.1 and 4.2)."""
_MARKING = frozenset({"export", "readonly"})
"""Builtins that leave the value of a variable as it is where they name it without one."""
_NAMED_BEHIND = {"printf": "-v", "wait": "-p"}
"""Builtins that change the variable behind this option, and no other."""
_PLAIN_FLAGS = frozenset({"-x", "-r", "-g", "-a", "-rx", "-xr", "-gx", "--"})
"""Options of `declare` that leave a value as it is written."""
_ANYTHING = frozenset({"source", ".", "eval"})
"""Builtins that may change every variable."""
_KEYWORDS = frozenset(
    {"if", "then", "elif", "else", "fi", "for", "select", "while", "until", "do", "done", "case", "esac"}
    | {"{", "}", "!", "time", "function", "coproc"}
)
_SKIPPED = (_KEYWORDS - {"for", "select"}) | {"command", "builtin"}
_DEFAULT = re.compile(r"\$\{(\w+):?=")
_ARITHMETIC = re.compile(r"\$\(\((?:[^()]|\([^()]*\))*\)\)")
_ASSIGNS = re.compile(r"\+\+|--|(?<![=!<>])=(?!=)|<<=|>>=")
"""What changes a variable in arithmetic (bash's manual, 6.5)."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_ACTIVATE = re.compile(r"(?:^|/)activate$")
"""A virtual environment's script, which sets PATH, PS1 and VIRTUAL_ENV alone (Python's Lib/venv/scripts/common)."""
_LIST_ENDS = frozenset({"\n", ";", "&", ")", ";;", ";&", ";;&", ""})
_OPENING = {"if": "if", "case": "case", "while": "loop", "until": "loop", "for": "loop", "select": "loop", "{": "group"}
_CLOSING = {"fi": ("if",), "done": ("loop",), "esac": ("case",), "}": ("group", "function")}
_PIPES = frozenset({"|", "|&"})
_ALL = ""
"""Stands for every variable where a command names none."""


class Item(NamedTuple):
    """An item of an array.

    Attributes:
        text: its value; what is not known in it stays as it is written.
        start: offset of what is written for it.
        stop: offset behind that.
        list_start: offset of the array; -1 where the item is not written as it is.
        unknown: its value is not known.
        alone: it is one substitution that is not known, and nothing else.
        several: it is several items, and it is not known which.
    """

    text: str
    start: int
    stop: int
    list_start: int = -1
    unknown: bool = False
    alone: bool = False
    several: bool = False


class Part(NamedTuple):
    """A part of a text: a piece of it, or a substitution that is not known, as it is written."""

    text: str
    unknown: bool = False


class Value(NamedTuple):
    """What a variable holds, some of which may be unknown.

    Attributes:
        parts: its text; of an array, that of its first item.
        items: the items of an array; None for a text.
        start: offset of the assignment; -1 if it is not one of the text.
        command: number of the command that set it; -1: before the first.
    """

    parts: tuple[Part, ...]
    items: tuple[Item, ...] | None = None
    start: int = -1
    command: int = -1

    @property
    def text(self) -> str:
        """Its text; what is not known in it stays as it is written."""
        return "".join(part.text for part in self.parts)

    @property
    def unknown(self) -> bool:
        """Whether a part of it is not known."""
        unknown_item = self.items is not None and any(item.unknown for item in self.items)
        return unknown_item or any(part.unknown for part in self.parts)

    def same(self, other: "Value | None") -> bool:
        """Whether another value is the same to every command."""
        return other is not None and self.parts == other.parts and _texts(self) == _texts(other)


def _texts(value: Value) -> list[str] | None:
    return None if value.items is None else [item.text for item in value.items]


def _common(name: str, values: Sequence[Value | None]) -> Value | None:
    """The value on which all agree; of a list, the items in front on which they do, and one for all further ones."""
    first = values[0]
    if first is None or all(first.same(value) for value in values):
        return first
    lists = [value.items for value in values if value is not None and value.items is not None]
    if len(lists) < len(values):
        return None
    agreed = [items[0] for items in zip(*lists, strict=False)]
    texts = takewhile(lambda items: len({item.text for item in items}) == 1, zip(*lists, strict=False))
    agreed = agreed[: len(list(texts))]
    further = Item(f"${{{name}[@]}}", first.start, first.start, unknown=True, several=True)
    return first._replace(items=(*agreed, further)) if agreed else None


_Old = dict[str, Value | None]


@dataclass
class _Frame:
    """A compound command, or a list, that is being read.

    Attributes:
        kind: `if`, `case`, `loop`, `group`, `function`, `subshell` or `list`.
        before: the operator in front of it.
        old: the values before it, of the variables that it changes, or that its branch does.
        branches: what each branch that ended has set.
        complete: one of its branches is always taken.
        pattern: a pattern of a `case` is expected.
        further: of an `if`, a condition behind the first is being read.
        unsure: of a list, a `||` came, and what stands behind it may run or not.
        first: of a list, what its first command has set.
    """

    kind: str
    before: str
    old: _Old = field(default_factory=dict)
    branches: list[_Old] = field(default_factory=list)
    complete: bool = False
    pattern: bool = False
    further: bool = False
    unsure: bool = False
    first: tuple[str, ...] = ()


class Variables:
    """The variables of a text, command by command.

    `enter` a command, ask `get` and `expanded` words of it, then `leave` it.
    """

    def __init__(
        self,
        text_commands: Sequence[Command],
        outside: Callable[[str], str | None],
        evaluate: "Callable[[Token, Variables], Value | None]",
    ) -> None:
        """Begin before the first command.

        Args:
            text_commands: all commands of the text.
            outside: the value that a variable has before the text, None if it is not known.
            evaluate: what an assignment sets, None if it is not known.
        """
        self._outside, self._evaluate = outside, evaluate
        self._values: dict[str, Value | None] = {}
        self._last: dict[str, int] = {}
        for number, command in enumerate(text_commands):
            for name in _changed(command.words).union(command.opened):
                self._last[name] = number
        self._frames: list[_Frame] = []
        self._repeats: list[int] = []
        self._number = -1
        self._before = self._operator = "\n"
        self._opened: list[str] = []
        self._recent: tuple[str, ...] = ()
        self._functions: set[str] = set()
        self._of_functions: set[str] = set()
        self._called = self._anything = -1
        self._functions_set_anything = False
        self._transformed: set[str] = set()
        self._function_part = ""
        self._lost = False
        self._budget = MAX_TOTAL
        self.exported: dict[str, None] = {}

    def get(self, name: str) -> Value | None:
        """What a variable holds at the command that was entered; None if that is not known."""
        if self._lost or self._budget < 0:
            return None
        if name in self._values:
            value = self._values[name]
        else:
            text = self._outside(name)
            value = None if text is None else Value((Part(text),))
        if value is None or value.command < self._anything or name in self._transformed:
            return None
        if name in self._of_functions and value.command < self._called:
            return None
        self._budget -= sum(len(item.text) for item in value.items) if value.items is not None else len(value.text)
        return None if self._may_change_again(name, value.command) else value

    def sets(self, name: str) -> bool:
        """Whether any command of the text sets a variable."""
        return name in self._last

    def _may_change_again(self, name: str, command: int) -> bool:
        """Whether a loop or function that began behind a command changes the variable, or what follows may."""
        outer = bisect_right(self._repeats, command)
        if outer == len(self._repeats):
            return False
        start = self._repeats[outer]
        return self._last.get(name, -1) >= start or self._last.get(_ALL, -1) >= start

    def environment(self) -> dict[str, str | None]:
        """The variables that the text exports, None for a value that is not known."""
        return {name: self.text(name) for name in self.exported}

    def text(self, name: str) -> str | None:
        """The text that a variable holds; None if it is not known, or an array."""
        value = self.get(name)
        return value.text if value is not None and value.items is None and not value.unknown else None

    def exported_text(self, name: str) -> str | None:
        """As `text`, in a program that the shell starts."""
        return self.text(name) if name in self.exported or not self.sets(name) else None

    # ---- commands

    def enter(self, command: Command) -> list[Token]:
        """Begin a command; returns the words of its simple command, keywords left out."""
        self._number += 1
        self._operator, self._opened = command.operator, command.opened
        words = list(command.words)
        if self._at_pattern() and (not words or words[0].literal != "esac"):
            return self._pattern(words)
        while words and words[0].literal in _KEYWORDS:
            words = self._keyword(words)
            if self._at_pattern() and words:
                return self._pattern(words)
        return [] if self._defines_function(words) else words

    def leave(self, words: Sequence[Token]) -> None:
        """End a command: what it sets counts from the next one on.

        Args:
            words: those that `enter` returned.
        """
        if words:
            self._run(words)
        for name in self._opened:
            self._set(name, None)
        operator = self._operator
        if operator in {"&&", "||"}:
            self._join_list(operator)
        elif operator in _LIST_ENDS:
            self._end_lists(background=operator == "&")
        if operator == "(":
            self._open("function" if self._function_part else "subshell")
        elif operator == ")":
            self._close("subshell", "function")
        elif operator in {";;", ";&", ";;&"}:
            self._end_arm(falls=operator != ";;")
        self._before = operator

    def _run(self, words: Sequence[Token]) -> None:
        """What a simple command does to the variables."""
        program = words[0].literal
        self._lost = self._lost or (program in _DECLARING and any("n" in flag for flag in _flags(words)))
        piped = self._before in _PIPES or self._operator in _PIPES or self._operator == "&"
        self._call(program)
        names = _changed(words)
        if _ALL in names:
            self._set_anything()
            names.discard(_ALL)
        if program in _DECLARING and not _PLAIN_FLAGS.issuperset(_flags(words)):
            self._transformed |= names
        stated = {token.name: token for token in _stated(words)}
        for name in names:
            value = self._evaluate(stated[name], self) if name in stated and not piped else None
            self._set(name, value)
        self._recent = tuple(names)
        if program == "export" or (program in _DECLARING and any("x" in flag for flag in _flags(words))):
            self._export(_variables_in(words[1:]) - {_ALL})

    def _call(self, program: str) -> None:
        """A command may be a function of the text, and what functions do happens then."""
        if program in self._functions:
            self._called = self._number
            self._anything = self._number if self._functions_set_anything else self._anything

    def _set_anything(self) -> None:
        """A command may set every variable: now, and where it stands in a function, at each call."""
        self._anything = self._number
        if any(frame.kind == "function" for frame in self._frames):
            self._functions_set_anything = True

    def _export(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.exported) < MAX_EXPORTED:
                self.exported[name] = None

    def _set(self, name: str, value: Value | None) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None:
            frame.old.setdefault(name, self._values.get(name, _ABSENT))
            value = None if frame.unsure else value
        self._values[name] = value._replace(command=self._number) if value is not None else None

    # ---- compound commands

    def _open(self, kind: str) -> None:
        self._lost = self._lost or len(self._frames) >= MAX_DEPTH
        self._frames.append(_Frame(kind, self._before))
        self._function_part = ""
        if kind in {"loop", "function"}:
            self._repeats.append(self._number)

    def _keyword(self, words: list[Token]) -> list[Token]:
        """Do what a keyword says; returns the words behind it that are a command."""
        keyword, behind = words[0].literal, words[1:]
        if keyword in _OPENING:
            self._open(_OPENING[keyword] if keyword != "{" or not self._function_part else "function")
        if keyword in _CLOSING:
            self._close(*_CLOSING[keyword])
        if keyword in {"then", "elif", "else"}:
            self._branch(keyword)
        elif keyword in {"for", "select"}:
            self._run(words)
            return []
        elif keyword == "case":
            self._frames[-1].pattern = True
            self._lost = self._lost or [word.literal for word in behind[1:2]] != ["in"]
            return behind[2:]
        elif keyword == "function":
            self._function(behind[0].literal if behind else "", "parentheses" if self._operator == "(" else "body")
            return behind[1:]
        elif keyword == "time":
            return list(dropwhile(lambda word: word.literal == "-p", behind))
        return behind

    def _branch(self, keyword: str) -> None:
        """`then`, `elif` and `else`: what the first condition sets always counts, what a further one sets may."""
        frame = self._top("if")
        if frame is None:
            return
        if keyword != "then":
            self._end_branch(frame)
            frame.further = keyword == "elif"
            frame.complete = keyword == "else"
            return
        values = {name: self._values[name] for name in frame.old}
        self._restore(frame)
        self._frames.pop()
        for name, value in values.items():
            self._set(name, None if frame.further else value)
        self._frames.append(frame)
        frame.further = False

    def _top(self, *kinds: str) -> _Frame | None:
        """The innermost compound command, lists in it ended; None, and nothing is known on, if it is another."""
        self._end_lists(background=False)
        frame = self._frames[-1] if self._frames else None
        if frame is None or frame.kind not in kinds:
            self._lost = True
            return None
        return frame

    def _end_branch(self, frame: _Frame) -> None:
        """Note what a branch has set, and go back to where it began."""
        frame.branches.append({name: self._values[name] for name in frame.old})
        self._restore(frame)

    def _restore(self, frame: _Frame) -> None:
        for name, value in frame.old.items():
            if value is _ABSENT:
                del self._values[name]
            else:
                self._values[name] = value
        frame.old = {}

    def _close(self, *kinds: str) -> None:
        frame = self._top(*kinds)
        if frame is None:
            return
        if frame.kind in {"loop", "function"}:
            self._repeats.pop()
        if frame.kind == "function":
            self._of_functions.update(frame.old)
        sets = dict(self._ended(frame))
        self._frames.pop()
        if self._operator in _PIPES or self._operator == "&" or frame.before in _PIPES:
            sets = dict.fromkeys(sets)
        for name, value in sets.items():
            self._set(name, value)
        self._recent = tuple(sets)

    def _ended(self, frame: _Frame) -> Iterator[tuple[str, Value | None]]:
        """What a compound command has set when it ends; the values are those before it again."""
        if frame.kind == "group":
            values = {name: self._values[name] for name in frame.old}
            self._restore(frame)
            yield from values.items()
        elif frame.kind in {"if", "case"}:
            if frame.old or not frame.pattern:
                self._end_branch(frame)
            yield from self._agreed(frame)
        else:
            names = list(frame.old)
            self._restore(frame)
            if frame.kind == "loop":
                yield from ((name, None) for name in names)

    def _agreed(self, frame: _Frame) -> Iterator[tuple[str, Value | None]]:
        """The values on which all branches agree, None for the others."""
        by_name: dict[str, list[Value | None]] = {}
        for branch in frame.branches:
            for name, value in branch.items():
                by_name.setdefault(name, []).append(value)
        for name, values in by_name.items():
            if not frame.complete or len(values) < len(frame.branches):
                values.append(self._values.get(name))
            yield name, _common(name, values)

    # ---- case

    def _at_pattern(self) -> bool:
        return bool(self._frames) and self._frames[-1].kind == "case" and self._frames[-1].pattern

    def _pattern(self, words: list[Token]) -> list[Token]:
        """A pattern of a `case`, up to its bracket."""
        frame = self._frames[-1]
        frame.complete = frame.complete or (self._operator == ")" and [word.literal for word in words] == ["*"])
        frame.pattern = self._operator != ")"
        self._operator = "\n"
        return []

    def _end_arm(self, *, falls: bool) -> None:
        frame = self._top("case")
        if frame is None:
            return
        if falls:  # what it sets may count in the next arm, which goes on with it
            for name in frame.old:
                self._values[name] = None
        elif not frame.pattern:
            self._end_branch(frame)
        frame.pattern = True

    # ---- functions

    def _defines_function(self, words: Sequence[Token]) -> bool:
        """Whether a part of `NAME ()` stands here, or a line break in front of the body: the operators say nothing."""
        if not self._function_part and self._operator == "(" and len(words) == 1 and words[0].literal:
            self._function(words[0].literal, "parentheses")
        elif self._function_part == "parentheses" and not words and self._operator == ")":
            self._function_part = "body"
        elif not self._function_part or (self._function_part == "body" and not words and self._operator == "("):
            return False
        elif words or self._operator != ("(" if self._function_part == "parentheses" else "\n"):
            self._lost = True  # a body in a form that nobody writes
            self._function_part = ""
            return False
        self._operator = "\n"
        return True

    def _function(self, name: str, part: str) -> None:
        """A function's name was read; `part` is what comes next, its `parentheses` or its `body`."""
        self._functions.add(name)
        self._function_part = part

    # ---- lists

    def _join_list(self, operator: str) -> None:
        """A command of a list is followed by another one, which may not run."""
        top = self._frames[-1] if self._frames else None
        if top is None or top.kind != "list":
            self._frames.append(_Frame("list", self._before, first=self._recent))
        if operator == "||":
            frame = self._frames[-1]
            for name, old in frame.old.items():
                before = None if old is _ABSENT else old
                self._values[name] = _common(name, [before, self._values[name]])
            frame.unsure = True

    def _end_lists(self, *, background: bool) -> None:
        """End a list: what its first command sets counts, and what the others set if it changes nothing."""
        while self._frames and self._frames[-1].kind == "list":
            frame = self._frames.pop()
            sets = {name: self._values[name] for name in frame.old}
            self._restore(frame)
            for name, value in sets.items():
                self._set(name, _common(name, [self._values.get(name), value]))
            for name in frame.first if background else ():
                self._set(name, None)


_ABSENT = Value((Part("\0absent"),))
"""Stands for a variable that the text has not set yet."""


def _flags(words: Sequence[Token]) -> list[str]:
    return [word.text() for word in words[1:] if word.text().startswith("-")]


def _stated(words: Sequence[Token]) -> list[Token]:
    """The assignments of a command that set what is written; one that names a variable twice has none."""
    if all(word.name for word in words):
        stated = list(words)
    elif words[0].literal in _DECLARING and _PLAIN_FLAGS.issuperset(_flags(words)):
        stated = [word for word in words[1:] if word.name]
    else:
        stated = []
    names = [token.name for token in stated]
    return stated if len(names) == len(set(names)) else []


def _changed(words: Sequence[Token]) -> set[str]:
    """The variables that a command may change, keywords in front of it or not; `_ALL` for every one."""
    behind = list(dropwhile(lambda word: word.literal in _SKIPPED, words))
    names: set[str] = set()
    for word in words:
        names.update(*map(_set_by_substitution, word.parts))
    command = list(dropwhile(lambda word: bool(word.name), behind))
    if not command:
        return names | {word.name for word in behind}
    program, texts = command[0].literal, [word.text() for word in command[1:]]
    if program in _ANYTHING and not (program != "eval" and texts and _ACTIVATE.search(texts[0])):
        names.add(_ALL)
    if program in _NAMING:
        names |= _named(program, command)
    elif command[0].text().startswith("(("):
        names |= set(_IDENTIFIER.findall(command[0].text()))
    return names


def _is_computed(word: Token) -> bool:
    """Whether a substitution says which variable a word names, as in `export $(cat .env)`."""
    pieces = [piece for piece in word.parts if piece.text]
    return not word.name and bool(pieces) and pieces[0].substituted


def _set_by_substitution(piece: Piece) -> Iterator[str]:
    """The variables that `${NAME:=…}` or `$((…))` may change."""
    if piece.substituted:
        yield from (match[1] for match in _DEFAULT.finditer(piece.text))
        for arithmetic in _ARITHMETIC.findall(piece.text):
            if _ASSIGNS.search(arithmetic):
                yield from _IDENTIFIER.findall(arithmetic)


def _named(program: str, command: Sequence[Token]) -> set[str]:
    """The variables that a builtin names, which may be more than it changes; `_ALL` where a substitution says which."""
    words = command[1:]
    if program in {"for", "select", "let"}:
        named = words[:1] if program != "let" else words
        return set(_IDENTIFIER.findall(" ".join(word.text() for word in named)))
    if program in _NAMED_BEHIND:
        option = _NAMED_BEHIND[program]
        return _variables_in([word for flag, word in pairwise(command) if flag.text() == option])
    if program in _MARKING:
        words = [word for word in words if word.name or _is_computed(word)]
    implied = set() if program in _DECLARING else {"REPLY", "MAPFILE", "OPTARG", "OPTIND"}
    return _variables_in(words) | implied


def _variables_in(words: Sequence[Token]) -> set[str]:
    """The variables whose names are words; `_ALL` where a substitution makes such a word."""
    if any(_is_computed(word) for word in words):
        return {_ALL}
    names = {word.name or word.text().partition("[")[0] for word in words}
    return {name for name in names if _IDENTIFIER.fullmatch(name)}
