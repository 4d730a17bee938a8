"""How soon each page shows what it is for, and a picture of each:

    python times.py URL_OF_THE_DASHBOARD QUEUE DIRECTORY_FOR_PICTURES

For a broker with many jobs, such as `currant-loadtest looks --stay` leaves. Needs what click.py needs.
"""

import os
import pathlib
import shutil
import statistics
import sys
import time

from playwright.sync_api import sync_playwright

REPETITIONS = 10
TABLE = "main .scroll"
# The page has another now than before the look.
ANOTHER_TABLE = f"{TABLE}:not([data-before])"


def address(url):
    """Opened by its address, with everything that the page needs."""
    return lambda page: None, lambda page: page.goto(url)


def filtered(url, label, value):
    """On a page that is open already."""

    def before(page):
        page.goto(url)
        page.wait_for_selector(TABLE)
        if label != "State":
            page.get_by_label(label).fill(value)
        page.eval_on_selector(TABLE, "(one) => one.dataset.before = 'yes'")

    def look(page):
        field = page.get_by_label(label)
        field.select_option(value) if label == "State" else field.press("Enter")

    return before, look


def first_job(url):
    return lambda page: page.goto(url), lambda page: page.get_by_role("table").get_by_role("link").first.click()


def looks(url, queue):
    jobs, dead = f"{url}#/jobs/{queue}", f"{url}#/dead/{queue}"
    return [
        ("Overview", address(f"{url}#/"), TABLE),
        ("Queues", address(f"{url}#/queues"), TABLE),
        ("a queue", address(f"{url}#/queues/{queue}"), "main .card"),
        ("Jobs, the newest", address(jobs), TABLE),
        ("… that are ready", filtered(jobs, "State", "ready"), ANOTHER_TABLE),
        ("… with a tag that one in 1,000 has", filtered(jobs, "Tag", "customer-7"), ANOTHER_TABLE),
        ("… of a kind that one in a million has", filtered(jobs, "Kind", "rare"), ANOTHER_TABLE),
        ("a job", first_job(jobs), "main .line"),
        ("Dead letters, the newest", address(dead), TABLE),
        ("… by a word of one error in 1,000", filtered(dead, "Error contains", "route"), ANOTHER_TABLE),
    ]


def main():
    url, queue, pictures = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    pictures.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print("| page | median, ms | longest, ms |\n| --- | --- | --- |")
        for number, (name, (before, look), there) in enumerate(looks(url, queue)):
            took = []
            for _ in range(REPETITIONS + 1):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                before(page)
                began = time.monotonic()
                look(page)
                page.wait_for_selector(there)
                took.append((time.monotonic() - began) * 1000)
                page.screenshot(path=pictures / f"{number}.png")
                page.close()
            # The first isn't counted.
            print(f"| {name} | {statistics.median(took[1:]):.0f} | {max(took[1:]):.0f} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
