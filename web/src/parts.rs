//! Elements shared by several pages: bars, copy fields, confirmations, logs. Nothing here talks to the coordinator.

use std::time::Duration;

use chaarfm_api::LogLine;
use chaarfm_domain::LogLevel;
use chaarfm_protocol::Device;
use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, HtmlDocument, HtmlElement};

use crate::format;

/// How long a copy button shows its result.
const COPY_FEEDBACK_SECONDS: u64 = 2;

/// Sets the browser tab's title while the page is shown.
pub(crate) fn page_title(title: impl Fn() -> String + 'static) {
    Effect::new(move || document().set_title(&title()));
}

/// Moves the keyboard focus to the element with this id once it is rendered, if there is one.
pub(crate) fn focus_on(id: &'static str) {
    request_animation_frame(move || {
        let element = document().get_element_by_id(id).and_then(|element| element.dyn_into::<HtmlElement>().ok());
        if let Some(element) = element {
            // Nothing in it can fail.
            _ = element.focus();
        }
    });
}

/// Moves the keyboard focus to the element with the id `to` when the calling component is removed while the focus is
/// inside `part` (a selector). Otherwise the focus would be lost, and a keyboard user would start at the top of the
/// page again.
pub(crate) fn focus_moves_on(part: &'static str, to: &'static str) {
    // The removed part still exists when this runs.
    on_cleanup(move || {
        if document().active_element().is_some_and(|element| matches!(element.closest(part), Ok(Some(_)))) {
            focus_on(to);
        }
    });
}

/// Follows `source`, but changes at most once per `period`: for lists that are fetched again when a count changes.
pub(crate) fn throttled<T>(source: Memo<T>, period: Duration) -> RwSignal<T>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let calm = RwSignal::new(source.get_untracked());
    let pending = StoredValue::new(false);
    Effect::new(move || {
        source.track();
        if pending.get_value() {
            return;
        }
        pending.set_value(true);
        set_timeout(
            move || {
                // The page may have been left meanwhile, and these signals dropped.
                let Some(value) = source.try_get_untracked() else { return };
                pending.set_value(false);
                if calm.try_with_untracked(|before| *before != value) == Some(true) {
                    calm.set(value);
                }
            },
            period,
        );
    });
    calm
}

/// A progress bar with one part.
#[component]
pub(crate) fn Bar(#[prop(into)] percent: Signal<u8>, label: &'static str) -> impl IntoView {
    view! {
        <div
            class="bar"
            role="progressbar"
            aria-label=label
            aria-valuemin="0"
            aria-valuemax="100"
            aria-valuenow=move || percent.get()
        >
            <span class="bar-done" style:width=move || format!("{}%", percent.get())></span>
        </div>
    }
}

/// The device that a worker computes on.
#[component]
pub(crate) fn DeviceBadge(device: Device) -> impl IntoView {
    let processor = format::processor(&device);
    view! {
        <span class="device">
            <span class="chip" class:chip-gpu=processor == "GPU" title=device.backend>{processor}</span>
            <span class="device-name">{device.name}</span>
        </span>
    }
}

/// A text to be copied or typed elsewhere, with a copy button. The pieces are joined without separators; lines break
/// only between pieces, because a broken code or option is easily misread.
#[component]
pub(crate) fn CopyField(
    /// The label, such as "Join link".
    label: &'static str,
    /// For style sheets and tests.
    id: &'static str,
    #[prop(into)] pieces: Signal<Vec<String>>,
) -> impl IntoView {
    let field = NodeRef::<html::Code>::new();
    let feedback = RwSignal::new(None::<&'static str>);
    let copy = move |_| {
        let Some(field) = field.get() else { return };
        spawn_local(async move {
            let copied = copy_text(&field, &pieces.with_untracked(|pieces| pieces.concat())).await;
            feedback.try_set(Some(if copied { "Copied" } else { "Press Ctrl+C" }));
            set_timeout(
                move || {
                    feedback.try_set(None);
                },
                Duration::from_secs(COPY_FEEDBACK_SECONDS),
            );
        });
    };
    view! {
        <div class="copy-field">
            <div class="copy-head">
                <span class="label">{label}</span>
                <button type="button" class="quiet" on:click=copy aria-label=format!("Copy: {label}")>
                    {move || feedback.get().unwrap_or("Copy")}
                </button>
                // Outside the button, because screen readers do not announce changes inside one.
                <span class="visually-hidden" role="status">{feedback}</span>
            </div>
            <code id=id node_ref=field>
                {move || pieces.get().into_iter().map(|piece| view! { <span class="piece">{piece}</span> }).collect_view()}
            </code>
        </div>
    }
}

/// Copies a text to the clipboard. Browsers offer the clipboard API only over https and on localhost. Elsewhere the
/// shown text is selected and copied with the old command, and stays selected if even that is refused.
async fn copy_text(shown: &Element, text: &str) -> bool {
    if window().is_secure_context() && JsFuture::from(window().navigator().clipboard().write_text(text)).await.is_ok() {
        return true;
    }
    let Ok(Some(selection)) = window().get_selection() else { return false };
    selection.select_all_children(shown).is_ok()
        && document().unchecked_into::<HtmlDocument>().exec_command("copy").unwrap_or(false)
}

/// A button that asks before it acts. While disabled it keeps the keyboard focus, like all buttons here.
#[component]
pub(crate) fn ConfirmButton(
    /// For style and tests; the button that confirms is `{id}-yes`.
    #[prop(into)]
    id: String,
    label: &'static str,
    /// What the person should know before agreeing.
    #[prop(into)]
    question: Signal<String>,
    /// Label of the confirming button.
    yes: &'static str,
    /// Label of the cancelling button.
    no: &'static str,
    #[prop(into)] on_yes: Callback<()>,
    #[prop(into)] disabled: Signal<bool>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let ask = move |_| {
        if !disabled.get_untracked()
            && let Some(dialog) = dialog.get()
        {
            // Fails only if the dialog is already open.
            _ = dialog.show_modal();
        }
    };
    let close = move || {
        if let Some(dialog) = dialog.get() {
            dialog.close();
        }
    };
    let agree = move |_| {
        close();
        on_yes.run(());
    };
    let yes_id = format!("{id}-yes");
    view! {
        <button type="button" id=id class="quiet danger" on:click=ask aria-disabled=move || disabled.get().to_string()>
            {label}
        </button>
        <dialog node_ref=dialog class="confirm" aria-label=label>
            <p>{question}</p>
            <div class="buttons">
                <button type="button" class="quiet" on:click=move |_| close()>{no}</button>
                <button type="button" id=yes_id class="danger-solid" on:click=agree>{yes}</button>
            </div>
        </dialog>
    }
}

/// A message for the person, with a tone: `info`, `warning` or `error`.
#[component]
pub(crate) fn Notice(tone: &'static str, children: Children) -> impl IntoView {
    // It is inserted together with its text, and then only an alert is announced.
    let role = if tone == "info" { "note" } else { "alert" };
    view! { <div class=format!("notice notice-{tone}") role=role>{children()}</div> }
}

/// A log, newest line first. The caller limits the number of lines.
#[component]
pub(crate) fn Log(#[prop(into)] lines: Signal<Vec<LogLine>>) -> impl IntoView {
    view! {
        <section class="card log-card">
            <h2>"Log"</h2>
            <Show
                when=move || lines.with(|lines| !lines.is_empty())
                fallback=|| view! { <p class="empty">"What happens will be written here."</p> }
            >
                // Not announced: important lines are shown elsewhere on the page as well.
                <ol class="log" role="log" aria-live="off" tabindex="0" aria-label="Log, newest first">
                    {move || lines.get().into_iter().map(log_line).collect_view()}
                </ol>
            </Show>
        </section>
    }
}

fn log_line(line: LogLine) -> impl IntoView {
    let (class, level) = match line.level {
        LogLevel::Info => ("log-info", "Note"),
        LogLevel::Success => ("log-success", "Done"),
        LogLevel::Warning => ("log-warning", "Warning"),
        LogLevel::Error => ("log-error", "Error"),
    };
    view! {
        <li class=class>
            <time>{local_time(line.at_ms)}</time>
            <span class="log-level">{level}</span>
            <span class="log-message">{line.message}</span>
        </li>
    }
}

/// A moment as local time.
fn local_time(at_ms: u64) -> String {
    let date = js_sys::Date::new(&JsValue::from_f64(at_ms as f64));
    format!("{:02}:{:02}:{:02}", date.get_hours(), date.get_minutes(), date.get_seconds())
}

/// The same with the day before it.
pub(crate) fn local_day_and_time(at_ms: u64) -> String {
    let date = js_sys::Date::new(&JsValue::from_f64(at_ms as f64));
    let (year, month, day) = (date.get_full_year(), date.get_month() + 1, date.get_date());
    format!("{year}-{month:02}-{day:02} {}", local_time(at_ms))
}

#[cfg(test)]
mod tests {
    use leptos::{mount::mount_to, task::tick};
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[component]
    fn Part() -> impl IntoView {
        focus_moves_on("#part", "next");
        view! {
            <p id="part">
                <button id="inside">"Inside"</button>
            </p>
        }
    }

    fn element(id: &str) -> HtmlElement {
        document().get_element_by_id(id).unwrap().dyn_into().unwrap()
    }

    /// The focused element, once everything is rendered.
    async fn focused() -> String {
        let shown = js_sys::Promise::new(&mut |shown, _| {
            request_animation_frame(move || _ = shown.call0(&JsValue::NULL));
        });
        tick().await;
        JsFuture::from(shown).await.unwrap();
        document().active_element().unwrap().id()
    }

    #[test]
    async fn the_focus_moves_on_from_what_goes_and_from_nowhere_else() {
        let place: HtmlElement = document().create_element("div").unwrap().dyn_into().unwrap();
        document().body().unwrap().append_child(&place).unwrap();
        let is_there = RwSignal::new(true);
        let _mounted = mount_to(place.clone(), move || {
            view! {
                <h2 id="next" tabindex="-1">"Next"</h2>
                <button id="beside">"Beside"</button>
                <Show when=move || is_there.get()>
                    <Part />
                </Show>
            }
        });
        for (from, to) in [("inside", "next"), ("beside", "beside")] {
            is_there.set(true);
            tick().await;
            element(from).focus().unwrap();
            assert_eq!(focused().await, from);
            is_there.set(false);
            tick().await;
            assert!(document().get_element_by_id("part").is_none());
            assert_eq!(focused().await, to);
        }
        place.remove();
    }
}
