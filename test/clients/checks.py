"""What the tests of the Python drivers count by."""
import sys

counts = {"passed": 0, "failed": 0}


def check(condition, what):
    counts["passed" if condition else "failed"] += 1
    if not condition:
        print("FAILED:", what)


def done(name):
    """the line that test/run.sh adds up, and the end of the program"""
    print(f"{name}: {counts['passed']} passed, {counts['failed']} failed")
    sys.exit(counts["failed"] > 0)
