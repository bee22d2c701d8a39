"""The explorers of chapter 12 as a learner meets them: JupyterLab in a real browser, light and dark."""

from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser
CHAPTER = "12_whats_next"


def test_after_each_task_another_frame_and_another_answer(tmp_path):
    with explorer_page(CHAPTER, tmp_path, "light") as page:
        first = last_frame(page)
        assert first["after_task"] == 3
        drag(page, slider(page, "after task").locator(".noUi-handle"), pixels=160)
        wait(page, "frame.after_task > 3")
        moved = at_rest(page)
        assert moved["accuracy"] < first["accuracy"]
        page.get_by_role("button", name="task told", exact=True).click()
        wait(page, f"frame.accuracy > {moved['accuracy']} + 0.3")  # the same network, asked in another way
        status = page.locator(".widget-html", has_text="the mean over the tasks")
        assert "told which task an image is from" in status.inner_text()
        status.scroll_into_view_if_needed()


def test_fewer_bits_make_a_smaller_file_and_more_errors(tmp_path):
    with explorer_page(CHAPTER, tmp_path, "dark", shows="bits_explorer") as page:
        first = last_frame(page)
        assert first["bits"] == 3
        drag(page, slider(page, "bits").locator(".noUi-handle"), pixels=120)
        wait(page, "frame.bits === 2")
        moved = at_rest(page)
        assert moved["bytes"] < first["bytes"]
        assert moved["errors"] > first["errors"]
        page.locator(".widget-dropdown", has_text="method").locator("select").select_option(
            label="trained while rounded"
        )
        wait(page, f"frame.errors < {moved['errors']}")
        page.locator(".widget-html", has_text="different values").scroll_into_view_if_needed()
