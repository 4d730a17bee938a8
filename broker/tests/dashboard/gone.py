"""What the pages do while the database is away, or the broker."""

from playwright.sync_api import expect

from broker import PATIENCE_S


def database_gone(clicks):
    """Says so on a page that is open, and on one that is opened then, and goes on by itself."""
    clicks.go("Queues")
    expect(clicks.row("emails")).to_be_visible()
    clicks.broker.let_in(False)
    clicks.says("database")
    expect(clicks.page.get_by_role("status")).to_contain_text("waiting")
    # What is known is still there.
    expect(clicks.row("emails")).to_be_visible()
    clicks.picture("database-gone")
    for name in ["Jobs", "Schedules", "Overview"]:
        clicks.go(name)
        clicks.says("database")
        expect(clicks.page.get_by_text("Waiting for an answer")).to_be_visible()
    clicks.picture("database-gone-at-opening")
    clicks.broker.let_in(True)
    expect(clicks.row("emails")).to_be_visible(timeout=PATIENCE_S * 1000)
    expect(clicks.page.get_by_role("alert")).to_be_hidden()
    expect(clicks.page.get_by_role("status")).to_contain_text("live")


def broker_gone(clicks):
    """Says so when the broker is gone, and goes on by itself when it is back."""
    clicks.go("Queues")
    expect(clicks.row("emails")).to_be_visible()
    clicks.broker.stop()
    clicks.says("broker")
    expect(clicks.page.get_by_role("status")).to_contain_text("no connection")
    clicks.picture("broken")
