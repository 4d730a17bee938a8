"""Goes through the pages by keyboard alone: what has the focus can be seen, and actions leave it where it was."""

from playwright.sync_api import expect

STOPS_MAX = 100

# Has the focus, has a ring, and stands within the window.
IS_SEEN = """() => {
  const one = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  return one !== document.body && outlineStyle !== 'none' && parseFloat(outlineWidth) > 0
    && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
}"""


class Keys:
    def __init__(self, page):
        self.page, self.press, self.type = page, page.keyboard.press, page.keyboard.type

    def to(self, what, key="Tab"):
        """Presses until `what` has the focus."""
        for _ in range(STOPS_MAX):
            self.press(key)
            focused = lambda: self.page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)")
            assert self.page.evaluate(IS_SEEN), f"the focus isn't seen: {focused()}"
            if self.page.locator(":focus").and_(what).count():
                return
        raise AssertionError(f"{key} doesn't lead to {what}, but to {focused()}")

    def enter(self, what, key="Tab"):
        self.to(what, key)
        self.press("Enter")


def by_keyboard(clicks):
    page, keys = clicks.page, Keys(clicks.page)
    main, dialog = page.get_by_role("main"), page.get_by_role("dialog")
    in_dialog = lambda name: dialog.get_by_role("button", name=name, exact=True)

    def go(name):
        """By the links above, from wherever the focus is."""
        link = page.get_by_role("navigation").get_by_role("link", name=name, exact=True)
        keys.enter(link, "Shift+Tab")
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        expect(main).to_be_focused()

    clicks.go("Queues")
    page.reload()
    expect(clicks.row("emails")).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    keys.press("Enter")
    expect(main).to_be_focused()
    assert page.url.endswith("#/queues"), page.url
    keys.enter(clicks.button("Pause emails"))
    clicks.says("Pause of emails: done")
    expect(clicks.button("Resume emails")).to_be_focused()
    keys.press("Enter")
    clicks.says("Resume of emails: done")
    expect(clicks.button("Pause emails")).to_be_focused()

    go("Jobs")
    keys.to(page.get_by_label("Queue"))
    keys.type("night")
    expect(page.get_by_role("row")).to_have_count(3)
    keys.to(page.get_by_label("Kind"))
    keys.type("no_such")
    keys.press("Enter")
    expect(page.get_by_text("No jobs like this.")).to_be_visible()
    expect(page.get_by_label("Kind")).to_be_focused()
    keys.press("ControlOrMeta+A")
    keys.type("send_email")
    keys.press("Enter")
    expect(page.get_by_role("row")).to_have_count(3)
    keys.enter(page.get_by_role("table").get_by_role("link").first)
    expect(page.get_by_role("heading", level=1)).to_contain_text("scheduled")
    expect(main).to_be_focused()
    keys.enter(clicks.button("Cancel"))
    expect(in_dialog("Leave it")).to_be_focused()
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    expect(clicks.button("Cancel")).to_be_focused()
    keys.press("Enter")
    keys.enter(in_dialog("Cancel"))
    clicks.says("Cancel: cancelled")
    # It can't be cancelled twice.
    expect(clicks.button("Cancel")).to_be_disabled()
    expect(main).to_be_focused()
    keys.enter(clicks.button("Retry"))
    clicks.says("Retry: ready")
    keys.to(page.get_by_role("region", name="Payload"))

    go("Schedules")
    keys.enter(clicks.button("Delete nightly-report"))
    expect(in_dialog("Leave it")).to_be_focused()
    # The table is drawn anew beside the question.
    clicks.broker.call("ScheduleService/Pause", {"name": "nightly-report"})
    expect(page.locator("tr", has_text="nightly-report").get_by_text("paused")).to_be_visible()
    keys.press("Escape")
    expect(clicks.button("Delete nightly-report")).to_be_focused()
    keys.enter(clicks.button("Resume nightly-report"), "Shift+Tab")
    expect(clicks.button("Pause nightly-report")).to_be_focused()

    go("Dead letters")
    keys.to(page.get_by_label("Queue"))
    keys.type("lost")
    expect(page.get_by_role("row")).to_have_count(4)
    keys.enter(clicks.button("Retry all"))
    keys.enter(in_dialog("Retry"))
    clicks.says("Retry all: 3 of 3 jobs")
    expect(clicks.button("Retry all")).to_be_focused()
