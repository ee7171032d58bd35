"""Runs a program on a terminal of its own and answers its questions.

Arguments: a JSON object, then the program and its arguments. The object has `seconds`, and `answers`: a list of
[regular expression, answer], each given once, whichever the program asks for first. More of them may come on stdin, each
a line of JSON. What the program writes goes to stdout. The exit code is the program's; 124 says that it took too long.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

plan = json.loads(sys.argv[1])
answers = [(re.compile(question, re.I), answer) for question, answer in plan["answers"]]
deadline = time.monotonic() + plan["seconds"]

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
# Wide, so that no question is broken over two lines.
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))


def wait_until_read():
    """Waits until the program takes the terminal's keys for itself, which shows by the echo being off.

    The program prints its question first, and some (pnpm 12, for a password) throw away what was typed before. One that
    leaves the echo on is not waited for any longer than two seconds: for it the terminal keeps what comes early.
    """
    until = time.monotonic() + 2
    while time.monotonic() < until and termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.005)


unanswered = ""
sources = [terminal, 0]
more = b""
while True:
    left = deadline - time.monotonic()
    if left <= 0:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        sys.stdout.write("\n(no answer fits, or the program hangs)\n")
        sys.exit(124)
    ready = select.select(sources, [], [], left)[0]
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            sources.remove(0)
        *lines, more = (more + data).split(b"\n")
        for line in lines:
            question, answer = json.loads(line)
            answers.append((re.compile(question, re.I), answer))
    if terminal in ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            # Linux says EIO when the program has closed its side.
            data = b""
        if not data:
            break
        text = data.decode("utf-8", "replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        # Colours and cursor moves would stand between the words of a question.
        unanswered += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    for index, (question, answer) in enumerate(answers):
        if question.search(unanswered):
            unanswered = ""
            del answers[index]
            wait_until_read()
            os.write(terminal, answer.encode() + b"\r")
            break

code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
