"""Clicks through the dashboard of a real broker in a real browser, and keeps pictures of its pages.

    python click.py PATH_OF_CURRANT_BROKER DIRECTORY_FOR_PICTURES

Needs the packages playwright and axe-playwright-python, and Chromium: CHROMIUM, or the first of chromium,
google-chrome on the PATH.
Jobs are stored, run and failed through the broker's JSON calls, so that nothing else is needed.
"""

import base64
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from broker import PATIENCE_S, Broker, Worker, free_port
from gone import broker_gone, database_gone
from keyboard import by_keyboard

SUCCEEDED = {"succeeded": {"result": base64.b64encode(b'{"sent":true}').decode()}}
FAILED = {"failed": {"error": "mailbox full", "class": "SmtpError", "details": "at send (mail.rs:42)", "discard": True}}


class Clicks:
    """One browser window, and what a person does in it."""

    def __init__(self, browser, broker, pictures):
        self.broker, self.pictures = broker, pathlib.Path(pictures)
        self.page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.problems = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self.console)
        self.page.goto(f"{broker.url}/")

    def console(self, message):
        # The browser tells of each answer that isn't 200.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.problems.append(message.text)

    def picture(self, name):
        """Of what can be read, in both themes, by those too who don't see it or see no colours."""
        self.page.screenshot(path=self.pictures / f"{name}.png")
        for scheme in ["dark", "light"]:
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page)
            assert not found.violations_count, f"{name}, {scheme}: {found.generate_report()}"

    def go(self, name):
        self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def says(self, text):
        expect(self.page.get_by_role("alert").filter(has_text=text)).to_be_visible(timeout=PATIENCE_S * 1000)

    def confirm(self, verb):
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name=verb, exact=True).click()

    def row(self, text):
        return self.page.get_by_role("row").filter(has_text=text)


def empty(clicks):
    expect(clicks.page.get_by_text("No queue yet")).to_be_visible()
    clicks.picture("empty")
    clicks.go("Jobs")
    expect(clicks.page.get_by_text("No queue yet, so there are no jobs.")).to_be_visible()
    clicks.go("Schedules")
    expect(clicks.page.get_by_text("No schedules.")).to_be_visible()


def fill(broker):
    broker.enqueue("reports", 3, delay="3600s")
    broker.enqueue("emails", 40, tags=["customer=7"])
    broker.enqueue("bounces", 12)
    Worker(broker, "mailer-1", "emails", 10, lambda job: SUCCEEDED)
    Worker(broker, "bouncer-1", "bounces", 5, lambda job: FAILED)
    broker.enqueue("night", 2, delay="3600s")
    broker.enqueue("lost", 3)
    Worker(broker, "loser-1", "lost", 5, lambda job: FAILED)
    broker.enqueue("exports", 4)
    Worker(broker, "exporter-1", "exports", 2, lambda job: None)
    schedule = {
        "name": "nightly-report", "cron": "0 3 * * *", "timeZone": "Europe/Berlin",
        "job": {"queue": "reports", "kind": "report"},
    }
    broker.call("ScheduleService/Create", {"schedule": schedule})
    dead = lambda: broker.call("QueueService/Stats", {"queue": "bounces"})["dead"]["jobs"]
    broker.eventually(lambda: dead() == "12")


def overview(clicks):
    clicks.go("Overview")
    expect(clicks.row("bounces").get_by_role("link", name="12")).to_be_visible()
    expect(clicks.page.get_by_role("status")).to_contain_text("live")
    clicks.page.wait_for_timeout(5000)
    clicks.broker.enqueue("emails", 5)
    for name in ["Starts within", "Runs for"]:
        card = clicks.page.locator("dl").filter(has_text=name)
        expect(card).to_contain_text("ms", timeout=PATIENCE_S * 1000)
    clicks.picture("overview")
    clicks.button("Theme: auto").click()
    clicks.button("Theme: light").click()
    expect(clicks.button("Theme: dark")).to_be_visible()
    clicks.picture("overview-dark")
    clicks.button("Theme: dark").click()
    # The numbers change by themselves.
    clicks.broker.enqueue("letters", 1)
    expect(clicks.row("letters")).to_be_visible(timeout=PATIENCE_S * 1000)


def queues(clicks):
    clicks.go("Queues")
    clicks.button("Pause emails").click()
    clicks.says("Pause of emails: done")
    expect(clicks.row("emails").get_by_text("paused")).to_be_visible()
    clicks.button("Resume emails").click()
    clicks.says("Resume of emails: done")
    clicks.row("emails").get_by_role("link", name="emails").click()
    expect(clicks.page.get_by_role("heading", name="emails")).to_be_visible()
    clicks.button("Pause emails").click()
    expect(clicks.page.get_by_text("paused", exact=True)).to_be_visible()
    clicks.button("Resume emails").click()
    expect(clicks.button("Pause emails")).to_be_visible()
    group = lambda name: clicks.page.get_by_role("group", name=name)
    group("Of the queue").get_by_label("Jobs at a time").fill("5")
    group("Of the queue").get_by_label("Jobs", exact=True).fill("100")
    clicks.button("Save limits").click()
    clicks.says("Limits: done")
    settings = lambda: clicks.broker.call("QueueService/Get", {"queue": "emails"})["queue"]["settings"]
    rate = {"jobs": 100, "period": "1s", "burst": 100}
    assert settings()["concurrencyMax"] == 5 and settings()["rate"] == rate, settings()
    of_keys = group("Of each key")
    of_keys.get_by_label("Jobs at a time").fill("2")
    of_keys.get_by_label("Jobs", exact=True).fill("20")
    of_keys.get_by_label("in seconds").fill("2")
    of_keys.get_by_label("Burst").fill("7")
    of_keys.get_by_label("in order").check()
    of_keys.get_by_label("Weights").fill("acme=3\na=b=2\n")
    clicks.button("Save limits").click()
    # It was drawn anew, with what the broker has.
    expect(of_keys.get_by_label("Weights")).to_have_value("a=b=2\nacme=3")
    expect(of_keys.get_by_label("in order")).to_be_checked()
    clicks.picture("queue")
    got = settings()
    assert (got["keyConcurrencyMax"], got["keyOrdered"]) == (2, True), got
    assert got["keyRate"] == {"jobs": 20, "period": "2s", "burst": 7}, got
    assert got["keyWeights"] == {"acme": 3, "a=b": 2} and got["rate"] == rate, got
    of_keys.get_by_label("Weights").fill("acme")
    clicks.button("Save limits").click()
    clicks.says("isn't KEY=NUMBER")
    of_keys.get_by_label("Weights").fill("acme=101")
    clicks.button("Save limits").click()
    clicks.says("1 to 100")
    for label in ["Jobs at a time", "Jobs", "in seconds", "Burst"]:
        of_keys.get_by_label(label, exact=True).fill("")
    of_keys.get_by_label("Weights").fill("")
    of_keys.get_by_label("in order").uncheck()
    clicks.button("Save limits").click()
    clicks.says("Limits: done")
    got = settings()
    assert not any(got.get(name) for name in ["keyConcurrencyMax", "keyRate", "keyOrdered", "keyWeights"]), got
    assert got["concurrencyMax"] == 5, got


def keys(clicks):
    """A job of an ordered key waits for the one before, and says for which."""
    first, second = clicks.broker.enqueue("tenants", 2, key="acme")
    clicks.broker.call("QueueService/Configure", {"queue": "tenants", "settings": {"keyOrdered": True}})
    worker = Worker(clicks.broker, "tenant-1", "tenants", 5, lambda job: None)
    explain = lambda: clicks.broker.call("JobService/Explain", {"jobId": second})
    clicks.broker.eventually(lambda: explain()["heldUpBy"] == first)
    clicks.page.goto(f"{clicks.broker.url}/ui/#/job/tenants/{second}")
    expect(clicks.page.get_by_text("of its key comes before it")).to_be_visible()
    expect(clicks.page.get_by_text("acme", exact=True)).to_be_visible()
    clicks.picture("job-of-a-key")
    clicks.page.get_by_role("link", name="That job").click()
    expect(clicks.page.get_by_role("heading", level=1)).to_contain_text(first)
    expect(clicks.page.get_by_text("tenant-1")).to_be_visible()
    worker.report(40, "page 4 of 10")
    reported = lambda: clicks.broker.call("JobService/Get", {"jobId": first})["job"].get("progress")
    clicks.broker.eventually(reported)
    clicks.page.reload()
    expect(clicks.page.get_by_text("40 % page 4 of 10")).to_be_visible()


def jobs(clicks):
    clicks.go("Jobs")
    clicks.page.get_by_label("Queue").select_option("emails")
    clicks.page.get_by_label("Tag").fill("customer=7")
    clicks.page.get_by_label("State").select_option("succeeded")
    expect(clicks.page.get_by_role("row")).to_have_count(41)
    clicks.picture("jobs")
    # By each of the other fields, which only the button looks at.
    for field, value in [("Kind", "no_such"), ("Error contains", "no such"), ("Created before", "2020-01-01T00:00")]:
        clicks.page.get_by_label(field).fill(value)
        clicks.button("Find").click()
        expect(clicks.page.get_by_text("No jobs like this.")).to_be_visible()
        clicks.page.get_by_label(field).fill("")
        clicks.button("Find").click()
        expect(clicks.page.get_by_role("row")).to_have_count(41)
    clicks.page.get_by_role("table").get_by_role("link").first.click()
    expect(clicks.page.get_by_text('"ada@example.com"')).to_be_visible()
    expect(clicks.page.get_by_text('"sent": true')).to_be_visible()
    expect(clicks.button("Cancel")).to_be_disabled()

    clicks.go("Jobs")
    clicks.page.get_by_label("Queue").select_option("reports")
    clicks.page.get_by_role("table").get_by_role("link").first.click()
    expect(clicks.page.get_by_text("it is scheduled for")).to_be_visible()
    clicks.picture("job-waiting")
    clicks.button("Cancel").click()
    clicks.confirm("Leave it")
    clicks.button("Cancel").click()
    clicks.confirm("Cancel")
    clicks.says("Cancel: cancelled")
    expect(clicks.page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    clicks.button("Retry").click()
    clicks.says("Retry: ready")
    expect(clicks.page.get_by_text("no worker is there")).to_be_visible()
    expect(clicks.page.get_by_role("heading", level=1)).to_contain_text("ready")
    # What others do to it is seen too.
    job = clicks.page.url.rsplit("/", 1)[1]
    clicks.broker.call("JobService/Cancel", {"jobIds": [job]})
    expect(clicks.page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    clicks.button("Delete").click()
    clicks.confirm("Delete")
    expect(clicks.page.get_by_role("heading", name="Jobs")).to_be_visible()

    clicks.page.get_by_label("Queue").select_option("reports")
    clicks.button("Cancel all").click()
    clicks.confirm("Cancel")
    clicks.says("Cancel all: 2 of 2 jobs")
    clicks.button("Retry all").click()
    clicks.confirm("Retry")
    clicks.says("Retry all: 2 of 2 jobs")
    clicks.button("Delete all").click()
    clicks.confirm("Delete")
    clicks.says("Delete all: 2 of 2 jobs")
    expect(clicks.page.get_by_text("No jobs like this.")).to_be_visible()


def pages(clicks):
    """To the next page and back, where there is one."""
    clicks.broker.enqueue("many", 60)
    clicks.go("Jobs")
    clicks.page.get_by_label("Queue").select_option("many")
    rows = clicks.page.get_by_role("row")
    expect(rows).to_have_count(51)
    expect(clicks.button("Newer")).to_be_disabled()
    clicks.button("Older").click()
    expect(rows).to_have_count(11)
    expect(clicks.button("Older")).to_be_disabled()
    clicks.button("Newer").click()
    expect(rows).to_have_count(51)
    # Of very many jobs a page looks at some, and finds nothing.
    some = lambda route: route.fulfill(json={"jobs": [], "nextPageToken": "further"})
    clicks.page.route("**/*JobService/List", some, times=1)
    clicks.button("Find").click()
    expect(clicks.page.get_by_text("None so far.")).to_be_visible()
    clicks.button("Find").click()
    expect(rows).to_have_count(51)
    for number in range(60):
        clicks.broker.enqueue(f"of-many-{number}", 1)
    clicks.go("Queues")
    link = lambda name: clicks.page.get_by_role("link", name=name, exact=True)
    link("Next page").click()
    expect(clicks.row("tenants")).to_be_visible()
    link("From the first").click()
    expect(clicks.row("bounces")).to_be_visible()


def dead_letters(clicks):
    clicks.go("Overview")
    clicks.row("bounces").get_by_role("link", name="12").click()
    expect(clicks.page.get_by_role("heading", name="Dead letters")).to_be_visible()
    expect(clicks.page.get_by_role("row")).to_have_count(13)
    clicks.picture("dead-letters")
    clicks.page.get_by_role("table").get_by_role("link").first.click()
    expect(clicks.page.get_by_text("Attempt 1 failed")).to_be_visible()
    expect(clicks.page.get_by_text("(worker bouncer-1)")).to_be_visible()
    clicks.page.get_by_text("Details").click()
    expect(clicks.page.get_by_text("at send (mail.rs:42)")).to_be_visible()
    clicks.picture("job")
    clicks.go("Dead letters")
    clicks.page.get_by_label("Queue").select_option("bounces")
    clicks.button("Retry all").click()
    clicks.confirm("Retry")
    clicks.says("Retry all: 12 of 12 jobs")
    dead = lambda: clicks.broker.call("QueueService/Stats", {"queue": "bounces"})["dead"]["jobs"]
    clicks.broker.eventually(lambda: dead() == "12")
    clicks.button("Delete all").click()
    clicks.confirm("Delete")
    clicks.says("Delete all: 12 of 12 jobs")
    expect(clicks.page.get_by_text("No dead jobs here.")).to_be_visible()


def schedules(clicks):
    clicks.go("Schedules")
    clicks.row("nightly-report").locator("summary").click()
    expect(clicks.row("nightly-report").get_by_text("UTC").first).to_be_visible()
    clicks.picture("schedules")
    clicks.button("Run now nightly-report").click()
    clicks.says("RunNow nightly-report: job")
    clicks.button("Pause nightly-report").click()
    expect(clicks.row("nightly-report").get_by_text("paused")).to_be_visible()
    clicks.button("Resume nightly-report").click()
    expect(clicks.button("Pause nightly-report")).to_be_visible()
    clicks.button("Delete nightly-report").click()
    clicks.confirm("Delete")
    expect(clicks.page.get_by_text("No schedules.")).to_be_visible()


def workers_and_brokers(clicks):
    clicks.go("Workers")
    expect(clicks.row("exporter-1").get_by_text("2 of 2")).to_be_visible()
    clicks.picture("workers")
    clicks.go("Brokers")
    expect(clicks.row("this one")).to_be_visible()
    clicks.picture("brokers")


def signed_in(browser, broker, pictures, binary):
    """With tokens: nothing without one, not everything with one for reading."""
    clicks = Clicks(browser, broker, pictures)
    dialog = clicks.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    clicks.picture("sign-in")
    clicks.page.get_by_label("Token", exact=True).fill("wrong")
    clicks.button("Sign in").click()
    expect(dialog.get_by_role("alert")).not_to_be_empty()
    command = [binary, "token", "create", "--name", "reader", "--scope", "read"]
    environment = {**os.environ, "CURRANT_DATABASE__URL": broker.database_url()}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    clicks.page.get_by_label("Token", exact=True).fill(token)
    clicks.button("Sign in").click()
    expect(clicks.row("emails")).to_be_visible()
    clicks.button("Pause emails").click()
    clicks.says("admin")
    clicks.button("Sign out").click()
    expect(dialog).to_be_visible()
    assert not clicks.problems, clicks.problems


def main():
    binary, pictures = os.path.abspath(sys.argv[1]), sys.argv[2]
    os.makedirs(pictures, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "there is no Chromium: install it, or say where it is in CHROMIUM"
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        os.chmod(directory, 0o755)
        port = free_port()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        broker = Broker(binary, directory, port)
        clicks = Clicks(browser, broker, pictures)
        steps = [empty, overview, queues, keys, jobs, dead_letters, by_keyboard, schedules, workers_and_brokers]
        steps += [pages, database_gone, broker_gone]
        try:
            for step in steps:
                if step is overview:
                    fill(broker)
                step(clicks)
                assert not clicks.problems, clicks.problems
                print(f"{step.__name__}: as it should be", flush=True)
            again = Broker(binary, directory, port, {"CURRANT_ACCESS__REQUIRED": "true"}.items())
            broker = again
            signed_in(browser, again, pictures, binary)
            print("signed_in: as it should be", flush=True)
        except BaseException:
            clicks.page.screenshot(path=f"{pictures}/failed.png")
            raise
        finally:
            if broker.process.poll() is None:
                broker.stop()
        browser.close()


if __name__ == "__main__":
    main()
