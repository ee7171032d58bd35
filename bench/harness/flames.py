"""What flame graphs are made of: the cases, and what is left of the names that perf tells."""

import re

# Names of the cases to what the picture says of them.
CASES = {
    "packument": "a small packument, abbreviated, gzip, in memory; 16 connections",
    "packument-304": "the same, answered 304; 16 connections",
    "tarball-10kb": "a tarball of 10 KB; 16 connections",
    "http2": "a small packument over HTTP/2 without TLS; 16 connections of 8 streams",
    "publish-onto-1000": "publishes of 2 KB onto a package of 1,000 versions, one after the other",
    "publish-50mb": "publishes of 50 MB, one after the other, with a small packument asked over 16 connections beside",
    "cold-large-packuments": "15 MB packuments, full, gzip, that were not asked for before; one connection",
}

# The poll of a task. What called it is the same for all that a server does, so stacks begin here.
TASK = re.compile(r"^tokio::runtime::task::(core::Core|harness::Harness|raw::poll)")
HASH = re.compile(r"::h[0-9a-f]{16}\b")
DISAMBIGUATOR = re.compile(r"\[[0-9a-f]{6,16}\]")
LONGEST_NAME = 90


def file_name(case):
    return f"flame-{case}.svg"


def frame(name):
    """A function's name without hashes and without the types it is made for: what differs from build to build, and most of its
    length."""
    name = DISAMBIGUATOR.sub("", HASH.sub("", name))
    name = without_generics(name)
    return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…"


def without_generics(name):
    """`a::b<C<D>>::e` as `a::b::e`. `<A as B>::c` is left, since there the types are the name."""
    found, depth, previous = [], 0, ""
    for at, letter in enumerate(name):
        # `a::<C>` is of types too, `a::<impl C for D>` a name.
        typed = previous == ":" and not name.startswith("<impl ", at)
        opens = letter == "<" and (depth or typed or re.match(r"[\w}]", previous))
        if opens:
            depth += 1
        elif letter == ">" and depth and previous != "-":
            depth -= 1
            previous = letter
            continue
        if not depth:
            found.append(letter)
        previous = letter
    return "".join(found).replace("::::", "::")


def stack(frames):
    """Frames from the thread to the innermost function, from the innermost poll of a task on, without what perf does not know."""
    thread, *frames = [name for name in frames if name not in ("[unknown]", "")]
    polls = [at for at, name in enumerate(frames) if TASK.match(name)]
    if polls:
        frames = frames[polls[-1] + 1:]
    return [thread, *map(frame, frames)]


def folded(lines):
    """Lines of folded stacks, cleaned, added up and in order."""
    counts = {}
    for line in lines:
        names, _, count = line.rpartition(" ")
        cleaned = ";".join(stack(names.split(";")))
        counts[cleaned] = counts.get(cleaned, 0) + int(count)
    return [f"{names} {count}" for names, count in sorted(counts.items())], sum(counts.values())
