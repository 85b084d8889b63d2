"""What the tests of the Python drivers share."""
import sys

counts = {"passed": 0, "failed": 0}


def check(condition, what):
    counts["passed" if condition else "failed"] += 1
    if not condition:
        print("FAILED:", what)


STORY = "Tell a very long story about a farm."
STILL_BUSY = ("SELECT count(*) FROM pg_stat_activity "
              "WHERE state = 'active' AND query LIKE '%slm_generate_stream%' AND pid <> pg_backend_pid()")


def done(name):
    """the line that test/run.sh adds up, and the end of the program"""
    print(f"{name}: {counts['passed']} passed, {counts['failed']} failed")
    sys.exit(counts["failed"] > 0)
