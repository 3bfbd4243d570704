"""Variables of a script: known where every way to the launch agrees, and as bash itself has them."""

import random
import subprocess

import pytest

from tuner.checks.edit import Change, edits_for, spliced
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch

CC = '{"fast_moe_cold_start": true}'


def only(text: str) -> ManifestLaunch:
    """The one launch in a script."""
    (launch,) = launches_in("run.sh", text)
    return launch


def seed_of(text: str) -> str | None:
    """What `$A` is in the launch at a script's end; None if it is not known."""
    word = launches_in("run.sh", f'{text}\nvllm serve m --seed "$A"')[-1].words[-1]
    assert word.text == "$A" or not word.unknown
    return None if word.unknown else word.text


@pytest.mark.parametrize(
    "text",
    [
        "A=1; if x; then A=2; fi",
        "if x; then A=1; else A=2; fi",
        "A=1\nif x\nthen\n  A=2\nelif y; then A=1\nelse A=1; fi",
        "if x; then A=1; fi",
        "case $1 in a) A=1 ;; *) A=2 ;; esac",
        "case $1 in\n  a) A=1 ;;\n  b) A=1 ;;\nesac",
        "A=1; [ x ] && A=2",
        "A=1; x || A=2",
        "x && A=1 || y",
        "A=1; for A in 1 2; do :; done",
        "A=1; while x; do A=2; done",
        "A=1; x | read A",
        "A=1; read -r A",
        "A=1; source site.env",
        "A=1; . ./site.env",
        "A=1; eval $X",
        "A=1; printf -v A %s $X",
        "A=1; mapfile -t A",
        "A=1; getopts a A",
        "A=1; unset A",
        "A=1; declare -i A=2+3",
        "A=1; let A=2",
        "A=1; let 'A += 1'",
        "A=1; (( A++ ))",
        "A=1; for ((A=0; A<3; A++)); do :; done",
        "A=1; declare -n B=A; B=2",
        "A=1; f() { A=2; }; f",
        "A=1; function f {\nA=2\n}\nf",
        "A=1; { A=2; } | tee log",
        "A=1; export A=$(date)",
        "A=1; export $(cat .env)",
        "A=1; wait -n -p A",
        "A=$1",
        "A[1]=2",
        "A=1; : ${A:=2} ${B:=$1}; A=${B}",
        "f() { A=1; }",
        "while x; do vllm serve n $A --x; A=2; done",
        "A=1; fi",
        "A=*.json; A=$A$B",
    ],
)
def test_a_value_that_some_way_does_not_have_is_unknown(text: str) -> None:
    """Branches, loops, lists, functions, and commands that set variables."""
    assert seed_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("A=1; A=2", "2"),
        ("if x; then A=1; else A=1; fi", "1"),
        ("A=1; if x; then A=1; fi", "1"),
        ("case $1 in a) A=1 ;; *) A=1 ;; esac", "1"),
        ("A=1; if x; then B=2; fi", "1"),
        ("A=1; (A=2)", "1"),
        ("A=1; f() { A=2; }", "1"),
        ("A=1; A=2 true", "1"),
        ("A=1; echo read A", "1"),
        ("A=1; for x in A B; do :; done", "1"),
        ("A=1; while read -r x; do :; done < file", "1"),
        ("A=1; source venv/bin/activate", "1"),
        ("export A=1; declare -x B=2", "1"),
        ("declare -r A=1", "1"),
        ("A=1; export A", "1"),
        ("A=1; readonly A", "1"),
        ("A=1; wait $B", "1"),
        ("cd /x && A=1 && true; A=2", "2"),
        ("{ A=1; }", "1"),
        ("A=1; A+=2", "12"),
        ("A=1; A=${A:-2}", "1"),
        ("A=; A=${A:-2}", "2"),
        ("A=; A=${A-2}", ""),
        ("A=1; A=${A:?x}", "1"),
        ("A=1; A=${A:+3}", "3"),
        ("A=; A=${A:+3}", ""),
        ("B='x y'; A=$B", "x y"),
        ("A=1; # A=2", "1"),
        ("A=1\nif x; then\n  exit 1\nfi", "1"),
    ],
)
def test_a_value_that_every_way_has_is_known(text: str, value: str) -> None:
    """What cannot change the variable leaves it known."""
    assert seed_of(text) == value


def test_behind_and_the_commands_before_have_run() -> None:
    """In `A=1 && vllm serve`, the server sees the assignment; behind `||` it may not."""
    assert only("cd /x && export A=1 && vllm serve m --seed $A").words[-1].text == "1"
    assert only("x || A=1 && vllm serve m --seed $A").words[-1].unknown


def test_the_environment_may_set_what_the_text_does_not() -> None:
    """A default is not known to count, and is one word."""
    launch = only('vllm serve "${MODEL:-org/model}" --port ${PORT-80}')
    assert launch.args == ("${MODEL:-org/model}", "--port", "${PORT-80}")
    assert [word.unknown for word in launch.words] == [True, False, True]


def test_an_empty_variable_is_no_argument_unless_it_is_quoted() -> None:
    """As bash has it."""
    assert only('X=\nvllm serve m $X --a "$X" --b "${L[@]}"').args[:4] == ("m", "--a", "", "--b")
    assert only('L=()\nvllm serve m "${L[@]}" --a').args == ("m", "--a")


def test_file_names_and_another_separator_make_a_value_unknown() -> None:
    """Of an unquoted value with a `*`, and of all of them where IFS is set."""
    assert only("X='a*'\nvllm serve m --x $X").words[-1].unknown
    assert only("IFS=,\nX='a b'\nvllm serve m --x $X").words[-1].unknown
    assert not only("X='a b'\nwhile IFS= read -r l; do :; done\nvllm serve m --x $X").words[-1].unknown


def test_several_words_in_braces_hide() -> None:
    """Nobody knows here which words a shell makes of them."""
    assert only("vllm serve m --x {a,b}").hidden == "{a,b}"
    assert not only("vllm serve m --x '{a,b}' {c}").hidden


def test_a_command_that_is_known_in_part_is_read() -> None:
    """What is not known in an array or a string stays as it is written there."""
    launch = only('CMD=(vllm serve "$M" --port "${PORT:-80}" --x 1)\n"${CMD[@]}"')
    assert launch.args == ("$M", "--port", "${PORT:-80}", "--x", "1")
    assert ([word.unknown for word in launch.words], launch.hidden) == ([True, False, True, False, False], "")
    launch = only('CMD="A=1 vllm serve $M --port 80"\neval "$CMD"')
    assert (launch.args, launch.env) == (("$M", "--port", "80"), {"A": "1"})
    assert launch.words[0].unknown


def test_arguments_that_some_way_adds_are_hidden() -> None:
    """The items on which all ways agree are read, and the others are one that hides."""
    launch = only('C=(vllm serve m --x)\nif y; then C+=(--z); fi\n"${C[@]}"')
    assert (launch.args, launch.hidden) == (("m", "--x", "${C[@]}"), "${C[@]}")
    assert only('C=(vllm serve m)\n[ y ] && C+=(--z)\n"${C[@]}"').hidden == "${C[@]}"
    assert only('C=(vllm serve m)\n[ y ] && C+=(--z) || B=1\n"${C[@]}"').hidden == "${C[@]}"
    assert only('vllm serve m "${UNKNOWN[@]}"').hidden == "${UNKNOWN[@]}"


def test_exports_are_the_servers_where_every_way_agrees() -> None:
    """An exported variable that a branch sets is in the environment, and its value is not known."""
    text = "export A=1 B=2\nif x; then export B=3; fi\nexport C\nD=4 vllm serve m"
    assert only(text).env == {"A": "1", "B": None, "C": None, "D": "4"}


def test_an_array_is_edited_where_it_is_written() -> None:
    """An argument behind the last one of the array, which stays one."""
    text = 'CMD=(\n  vllm serve m\n  --port 80\n)\nexec "${CMD[@]}"\n'
    words = only(text).words
    after = spliced(text, edits_for(text, words, Change((), ("-cc", CC), len(words))))
    assert only(after).args == ("m", "--port", "80", "-cc", CC)
    assert subprocess.run(["bash", "-n", "-c", after], check=False).returncode == 0


# ---- against bash

HEAD = 'K=0\nvllm() { shift; printf "@"; printf "|%s" "$@"; printf "\\n"; }\nf() { :; }\n'
LAUNCH = 'vllm serve m --x "$A" --y $B ${A:+--z}'
VALUES = ["1", "2", "'x y'", "''", '"$A"', '"${B}2"', "${A:-d}", "$B"]
CONDITIONS = ['test "$C" = 1', "true", "false", "A=c", "! true"]


SCRIPTS = 60


class Script:
    """Random scripts of assignments, branches and launches."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  no secret

    def text(self) -> str:
        """A script whose launches are numbered."""
        begin = self.random.choice(["", "A=1\nB=2\n"])
        lines = [self.command(0) for _ in range(self.random.randrange(1, 6))]
        parts = (begin + "\n".join([*lines, LAUNCH])).split("serve m")
        return parts[0] + "".join(f"serve m{index}{part}" for index, part in enumerate(parts[1:]))

    def block(self, depth: int) -> str:
        """One to three commands."""
        return "\n".join(self.command(depth) for _ in range(self.random.randrange(1, 4)))

    def command(self, depth: int) -> str:
        """A command, or a compound one of some."""
        pick = self.random.choice
        name, value, condition = pick("AB"), pick(VALUES), pick(CONDITIONS)
        plain = [f"{name}={value}"] * 5 + [
            f"{name}+=3",
            f"export {name}={value}",
            f"{name}={value} true",
            LAUNCH,
            LAUNCH,
        ]
        rare = [f"unset {name}", f"read {name} <<< z", "printf -v A 9", "(( A=7 ))", "f", ": ${A:=q}"]
        compounds = [
            lambda: f"if {condition}; then\n{self.block(depth + 1)}\nfi",
            lambda: f"if {condition}; then\n{self.block(depth + 1)}\nelse\n{self.block(depth + 1)}\nfi",
            lambda: f"if {condition}; then {name}=1\nelif {name}=2; then\n{self.block(depth + 1)}\nelse {name}=1\nfi",
            lambda: f'case "$C" in\n1) {self.block(depth + 1)};;\n*)\n{self.block(depth + 1)}\n;;\nesac',
            lambda: f"case $C in 1) {self.block(depth + 1)};& 2) {self.block(depth + 1)}\nesac",
            lambda: f"for i in 1 2; do\n{self.block(depth + 1)}\ndone",
            lambda: f"while {condition} && ((K++ < 2)); do\n{self.block(depth + 1)}\ndone",
            lambda: f"{condition} && {self.command(depth + 1)}",
            lambda: f"{condition} || {self.command(depth + 1)}",
            lambda: f"{condition} && {self.command(depth + 1)} && {self.command(depth + 1)} || {name}=5",
            lambda: f"({self.block(depth + 1)})",
            lambda: f"{{ {self.block(depth + 1)}\n}}",
            lambda: f"{{ {self.block(depth + 1)}\n}} | cat",
            lambda: f"{{ {self.block(depth + 1)}\n}} &\nwait",
            lambda: f"{name}={value} && {name}=7 &\nwait",
            lambda: f'L=(--a {value}); L+=(--b)\nvllm serve m "${{L[@]}}" --w',
        ]
        simple = plain + (rare if self.random.random() < 0.4 else [])
        return pick(compounds)() if depth < 2 and self.random.random() < 0.6 else pick(simple)


def test_what_is_known_is_what_bash_has() -> None:
    """In random scripts, a launch without unknown words has these arguments whatever the conditions are."""
    known = 0
    for seed in range(SCRIPTS):
        text = Script(seed).text()
        outputs: dict[str, set[tuple[str, ...]]] = {}
        for choice in "12":
            environment = {"PATH": "/usr/bin:/bin", "C": choice} | ({"A": "e", "B": "e v"} if seed % 2 else {})
            process = subprocess.run(
                ["bash", "-c", HEAD + text], capture_output=True, check=False, text=True, env=environment
            )
            for line in process.stdout.splitlines():
                args = tuple(line.removeprefix("@|").split("|"))
                outputs.setdefault(args[0], set()).add(args)
        for launch in launches_in("run.sh", text):
            if not launch.hidden and not any(word.unknown for word in launch.words):
                assert outputs.get(launch.args[0], {launch.args}) == {launch.args}, text
                known += launch.args[0] in outputs
    assert known > 20


@pytest.mark.parametrize("change", ["$((A++))", "$((A = 9))", '"$(( (A += 1) ))"'])
def test_arithmetic_in_a_word_may_change_a_variable(change: str) -> None:
    """Bash's manual, 6.5. What only reads a variable leaves it as it is."""
    assert seed_of(f"A=4\necho {change}") is None
    assert seed_of("A=4\necho $((A * 9 == 3))") == "4"


def test_quotes_with_a_dollar_in_front() -> None:
    r"""`$'…'` without escapes is its text, as bash has it, and with one it is not known; `$"…"` is as `"…"`."""
    plain, escaped, translated = only("""vllm serve $'a/b' --x=$'\\x31' $"c" """).words
    assert (plain.text, plain.unknown) == ("a/b", False)
    assert escaped.unknown
    assert (translated.text, translated.unknown) == ("c", False)


def test_programs_that_add_arguments_hide_them() -> None:
    """`xargs` and `parallel` put in what they read."""
    assert only("echo a/b | xargs -I{} vllm serve {}").hidden == "xargs"
    assert only("parallel vllm serve {} --x ::: a/b c/d").args == ("{}", "--x")


@pytest.mark.parametrize(
    "change",
    [
        "export $(grep -v '^#' .env | xargs)",
        'n=A; export "$n=2"',
        'n=A; printf -v "$n" %s 2',
        'n=A; read "$n" < file',
        "for v in A; do unset $v; done",
        "load",
    ],
)
def test_a_command_that_may_change_any_variable(change: str) -> None:
    """A substitution says which, or a function that reads another script is called."""
    assert seed_of(f"load() {{ . ./env.sh; }}\nA=1\n{change}") is None
    assert seed_of("load() { . ./env.sh; }\nA=1") == "1"


def test_a_variable_with_an_attribute_is_not_what_is_assigned() -> None:
    """`declare -i A` makes a sum of what is assigned later, and `-u` capital letters."""
    assert seed_of("declare -i A\nA=1+1") is None
    assert seed_of("declare -u A\nA=a") is None


@pytest.mark.parametrize("program", ["ssh host", "docker exec c", "kubectl exec p --", "sudo"])
def test_a_script_that_runs_elsewhere_has_variables_of_its_own(program: str) -> None:
    """What this shell exports is not known there."""
    script = only(f"export A=1\n{program} bash -c 'vllm serve m --seed $A'")
    assert script.words[-1].unknown
    local = only("export A=1\nbash -c 'vllm serve m --seed $A'")
    assert local.args[-1] == "1"


def test_a_script_in_a_container_has_the_variables_of_the_container() -> None:
    """Options of `docker run` set them."""
    launch = only("export A=1\ndocker run -e A=2 image bash -c 'vllm serve m --seed $A'")
    assert launch.args[-1] == "2"
