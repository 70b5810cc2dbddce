//! The run: its progress, its speed and the owner's buttons; or the form for the next run.

use chaarfm_api::{ScanView, SessionView};
use chaarfm_domain::{Counts, LeftOutFiles, Standing};
use chaarfm_protocol::SessionState;
use leptos::prelude::*;

use super::{Control, source::SourceForm};
use crate::{
    api::{self, Order},
    format::{self, Shares},
    parts::{ConfirmButton, Notice, focus_moves_on},
};

/// Most kinds of left-out files that are named.
const MAX_KINDS_SHOWN: usize = 12;

#[component]
pub(crate) fn RunCard() -> impl IntoView {
    let control = expect_context::<Control>();
    let state = control.pick(|view| Some(view.state));
    let is_scanning = control.pick(|view| view.scan.is_some());
    let has_counts = control.pick(|view| view.counts != Counts::default());
    let is_active = Memo::new(move |_| {
        is_scanning.get() || matches!(state.get(), Some(SessionState::Running | SessionState::Paused))
    });
    let scanned = control.pick(|view| view.scan.as_ref().map(|scan| scan.library.clone()));
    Effect::new(move || {
        if let Some(library) = scanned.get() {
            control.choice.library.set(library);
        }
    });
    view! {
        <section class="card run" id="run" data-state=move || state_name(state.get())>
            <StateLine state is_scanning />
            <Show when=move || is_active.get() || has_counts.get()>
                <Progress />
            </Show>
            <Show when=move || is_active.get()>
                <Buttons state />
            </Show>
            <Show when=move || !is_active.get()>
                <Show when=move || has_counts.get()>
                    <h3>"Run another library through"</h3>
                </Show>
                <SourceForm />
            </Show>
        </section>
    }
}

/// The badge, and a sentence about what is happening or missing.
#[component]
fn StateLine(state: Memo<Option<SessionState>>, is_scanning: Memo<bool>) -> impl IntoView {
    let control = expect_context::<Control>();
    let scan = control.pick(|view| view.scan.clone());
    let has_workers = control.pick(|view| !view.workers.is_empty());
    let counts = control.pick(|view| view.counts);
    let goal = control
        .pick(|view| format!("Vectors go to the collection “{}”, by the model {}.", view.collection, view.model));
    let sentence = move || match state.get() {
        Some(SessionState::Running) if !has_workers.get() => "Waiting for a worker to join.".into(),
        Some(SessionState::Running) => goal.get(),
        Some(SessionState::Paused) if counts.get().leased > 0 => {
            "Tracks in work are finished; no new ones are given out.".into()
        }
        Some(SessionState::Paused) => "No tracks are given out until you resume.".into(),
        Some(SessionState::Complete) => complete_sentence(&counts.get()),
        _ if is_scanning.get() => String::new(),
        _ => "What shall be listened to?".into(),
    };
    view! {
        <div class="state-line" id="state-line" role="status" tabindex="-1">
            <span class=move || format!("badge badge-{}", state_name(state.get())) id="state">
                {move || state_label(state.get(), is_scanning.get())}
            </span>
            <span class="state-sentence">{sentence}</span>
        </div>
        {move || scan.get().map(|scan| view! { <p class="scan" id="scan">{scan_sentence(&scan)}</p> })}
    }
}

/// The bar, its legend, the time left, and reasons for a standstill.
#[component]
fn Progress() -> impl IntoView {
    let control = expect_context::<Control>();
    let counts = control.pick(|view| view.counts);
    let shares = Memo::new(move |_| Shares::of(&counts.get()));
    let speed = control.pick(|view| view.tracks_per_minute);
    let state = control.pick(|view| Some(view.state));
    let has_workers = control.pick(|view| !view.workers.is_empty());
    let reasons = control.pick(standstill);
    let passed_over = control.pick(passed_over);
    let pace = move || {
        let rate = format::rate(speed.get());
        let left = format::time_left(counts.get().open(), speed.get());
        match (state.get(), rate, left) {
            (Some(SessionState::Running), Some(rate), Some(left)) => format!("{rate} · {left}"),
            (Some(SessionState::Running), None, _) if has_workers.get() => match counts.get().done {
                0 => "The first tracks are on their way".into(),
                _ => "No track was finished in the last minute".into(),
            },
            (Some(SessionState::Running | SessionState::Paused), Some(rate), _) => rate,
            _ => String::new(),
        }
    };
    let part = move |name: &'static str, share: fn(&Shares) -> f64| {
        view! {
            <span class=format!("part part-{name}") style:width=move || format!("{:.3}%", shares.with(share))></span>
        }
    };
    let entry = move |name: &'static str, id: &'static str, label: &'static str, count: fn(&Counts) -> u64| {
        view! {
            <div class:zero=move || counts.with(count) == 0>
                <dt><span class=format!("dot part-{name}") aria-hidden="true"></span>{label}</dt>
                <dd id=id>{move || format::grouped(counts.with(count))}</dd>
            </div>
        }
    };
    view! {
        <p class="big-number">
            <strong id="percent">{move || format!("{} %", shares.get().finished_percent())}</strong>
            <span class="pace" id="pace">{pace}</span>
        </p>
        <div
            class="bar bar-parts"
            role="progressbar"
            aria-label="Progress of the run"
            aria-valuemin="0"
            aria-valuemax="100"
            aria-valuenow=move || shares.get().finished_percent()
        >
            {part("done", |shares| shares.done)}
            {part("skipped", |shares| shares.skipped)}
            {part("failed", |shares| shares.failed)}
            {part("leased", |shares| shares.leased)}
            {part("queued", |shares| shares.queued)}
        </div>
        {move || {
            let reasons = reasons.get();
            (!reasons.is_empty())
                .then(|| {
                    let lines = reasons.into_iter().map(|reason| view! { <p>{reason}</p> }).collect_view();
                    view! {
                        <Notice tone="info">
                            <div id="waiting">{lines}</div>
                        </Notice>
                    }
                })
        }}
        <dl class="legend">
            {entry("done", "count-done", "Done", |counts| counts.done)}
            {entry("skipped", "count-skipped", "Known already", |counts| counts.skipped)}
            {entry("failed", "count-failed", "Failed", |counts| counts.failed)}
            {entry("leased", "count-leased", "In work", |counts| counts.leased)}
            {entry("queued", "count-queued", "Waiting", |counts| counts.queued)}
        </dl>
        {move || {
            let passed_over = passed_over.get();
            (!passed_over.is_empty())
                .then(|| {
                    let lines = passed_over.into_iter().map(|line| view! { <p class="hint">{line}</p> }).collect_view();
                    view! { <div id="passed-over">{lines}</div> }
                })
        }}
    }
}

#[component]
fn Buttons(state: Memo<Option<SessionState>>) -> impl IntoView {
    let control = expect_context::<Control>();
    let order = move |order: Order| {
        if let Some(code) = control.code() {
            control.wish(api::order(code, order));
        }
    };
    let blocked = Signal::derive(move || control.is_blocked());
    let question = control.pick(|view| {
        let waiting = format::counted(view.counts.queued, "waiting track is", "waiting tracks are");
        format!("Stop this run? {waiting} dropped. Those in work are finished, and what is stored stays stored.")
    });
    let is_paused = Memo::new(move |_| state.get() == Some(SessionState::Paused));
    let pause_or_resume = move |_| {
        if control.may_wish() {
            order(if is_paused.get_untracked() { Order::Resume } else { Order::Pause });
        }
    };
    focus_moves_on("#run .buttons", "state-line");
    view! {
        <div class="buttons">
            // A single button for both states, so that it keeps the keyboard focus.
            <button
                type="button"
                id=move || if is_paused.get() { "resume" } else { "pause" }
                class="button"
                on:click=pause_or_resume
                aria-disabled=move || blocked.get().to_string()
            >
                {move || if is_paused.get() { "Resume" } else { "Pause" }}
            </button>
            <ConfirmButton
                id="stop"
                label="Stop"
                question=question
                yes="Stop the run"
                no="Keep going"
                on_yes=move |()| {
                    control.begun.set(None);
                    order(Order::Stop);
                }
                disabled=blocked
            />
        </div>
    }
}

/// Why queued tracks are not given to any of the connected workers.
fn standstill(view: &SessionView) -> Vec<String> {
    if let Some(waiting) = &view.waiting {
        return format::waiting(waiting);
    }
    // Workers in doubt come first in the list, so any that an incomplete list omits are taken as good.
    let is_any_good = view.worker_count != view.workers.len() as u64
        || view.workers.iter().any(|worker| worker.standing == Standing::Good);
    if view.state == SessionState::Running && view.counts.queued > 0 && !view.workers.is_empty() && !is_any_good {
        return vec![
            "No connected worker gets tracks now: they are on probation or set aside. Another worker can go on.".into(),
        ];
    }
    Vec::new()
}

/// Files that the newest scan did not queue, for other reasons than their content.
fn passed_over(view: &SessionView) -> Vec<String> {
    let alike = (view.counts.alike > 0).then(|| alike_sentence(view.counts.alike));
    alike.into_iter().chain(left_out_sentence(&view.left_out)).collect()
}

fn alike_sentence(alike: u64) -> String {
    let files = format::counted(alike, "file of those known already has", "files of those known already have");
    format!(
        "{files} other bytes, but the artist, title and length of a track that is there; “Analyse every file” takes such files too."
    )
}

/// None if nothing was left out.
fn left_out_sentence(left_out: &[LeftOutFiles]) -> Option<String> {
    let files: u64 = left_out.iter().map(|kind| kind.files).sum();
    let (shown, rest) = left_out.split_at(left_out.len().min(MAX_KINDS_SHOWN));
    let mut kinds: Vec<_> = shown.iter().map(|kind| format!("{} {}", format::grouped(kind.files), kind.kind)).collect();
    if !rest.is_empty() {
        kinds.push(format!("{} of other kinds", format::grouped(rest.iter().map(|kind| kind.files).sum())));
    }
    let files_are = format::counted(files, "file is", "files are");
    (files > 0).then(|| format!("{files_are} left out, which no worker decodes: {}.", kinds.join(", ")))
}

/// A name for style sheets and tests.
fn state_name(state: Option<SessionState>) -> &'static str {
    match state {
        Some(SessionState::Running) => "running",
        Some(SessionState::Paused) => "paused",
        Some(SessionState::Complete) => "complete",
        Some(SessionState::Ended) => "ended",
        Some(SessionState::Idle) | None => "idle",
    }
}

fn state_label(state: Option<SessionState>, is_scanning: bool) -> &'static str {
    match state {
        Some(SessionState::Running) => "Running",
        Some(SessionState::Paused) => "Paused",
        Some(SessionState::Complete) => "Complete",
        Some(SessionState::Ended) => "Ended",
        Some(SessionState::Idle) | None if is_scanning => "Scanning",
        Some(SessionState::Idle) | None => "Ready",
    }
}

fn scan_sentence(scan: &ScanView) -> String {
    format!("Looking through “{}”: {} so far…", scan.library, format::counted(scan.files, "audio file", "audio files"))
}

/// Makes no statement about all tracks of the library, because some may have been dropped.
fn complete_sentence(counts: &Counts) -> String {
    let outcome = match (counts.done, counts.failed, counts.skipped) {
        (0, 0, known) => format::counted(known, "track was known already", "tracks were known already"),
        (done, 0, _) => format::counted(done, "track has its vector", "tracks have their vectors"),
        (_, failed, _) => {
            format!("{}: the reasons are below", format::counted(failed, "track has failed", "tracks have failed"))
        }
    };
    format!("Nothing is waiting any more; {outcome}.")
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use chaarfm_api::{WaitingView, WorkerView};
    use chaarfm_protocol::{Device, PairingCode, Trial, WorkerKind};

    use super::*;

    /// A session with a queue, and workers with these standings.
    fn queued(standings: &[Standing]) -> SessionView {
        let worker = |standing: &Standing| WorkerView {
            key: String::new(),
            id: 1,
            kind: WorkerKind::Browser,
            device: Device { backend: "flex".into(), name: "CPU".into() },
            trial: Trial::default(),
            agent: "test".into(),
            done: 0,
            failed: 5,
            standing: *standing,
            current: None,
        };
        SessionView {
            code: PairingCode::from_random(1),
            state: SessionState::Running,
            model: "m".into(),
            collection: "c".into(),
            counts: Counts { queued: 3, ..Counts::default() },
            tracks_per_minute: 0.0,
            waiting: None,
            scan: None,
            left_out: Vec::new(),
            invitations: Vec::new(),
            worker_count: standings.len() as u64,
            workers: standings.iter().map(worker).collect(),
            log: Vec::new(),
            advertised: None,
        }
    }

    #[test]
    fn a_run_that_stands_still_says_why() {
        let is_silent = |view: &SessionView| standstill(view).is_empty();
        assert!(is_silent(&queued(&[])), "that nobody is there is said elsewhere");
        assert!(is_silent(&queued(&[Standing::SetAside, Standing::Good])));
        let nobody = queued(&[Standing::SetAside, Standing::OnProbation]);
        assert!(standstill(&nobody).concat().starts_with("No connected worker gets tracks"));
        assert!(is_silent(&SessionView { worker_count: 3, ..nobody.clone() }), "there are more than are shown");
        assert!(is_silent(&SessionView { state: SessionState::Paused, ..nobody }));
        let waiting = WaitingView { retried: 3, next_try_seconds: 30, ..WaitingView::default() };
        let told = SessionView { waiting: Some(waiting), ..queued(&[Standing::Good]) };
        assert_eq!(standstill(&told), format::waiting(&waiting));
    }

    #[test]
    fn the_end_says_what_is_missing() {
        let sentence =
            |done, failed, skipped| complete_sentence(&Counts { done, failed, skipped, ..Counts::default() });
        assert_eq!(sentence(12, 0, 3), "Nothing is waiting any more; 12 tracks have their vectors.");
        assert_eq!(sentence(12, 1, 0), "Nothing is waiting any more; 1 track has failed: the reasons are below.");
        assert_eq!(sentence(0, 0, 9), "Nothing is waiting any more; 9 tracks were known already.");
    }

    #[test]
    fn what_was_passed_over_is_counted_by_its_kind() {
        let kind = |kind: &str, files| LeftOutFiles { kind: kind.into(), files };
        assert_eq!(left_out_sentence(&[]), None);
        let few = left_out_sentence(&[kind(".jpg", 1200), kind("AppleDouble", 1)]).unwrap();
        assert_eq!(few, "1\u{202f}201 files are left out, which no worker decodes: 1\u{202f}200 .jpg, 1 AppleDouble.");
        let many: Vec<_> = (0..14).map(|i| kind(&format!(".{i}"), 2)).collect();
        assert!(left_out_sentence(&many).unwrap().ends_with(", 2 .11, 4 of other kinds."));
        assert!(alike_sentence(1).starts_with("1 file of those known already has other bytes"));
        let view = SessionView { counts: Counts { skipped: 3, alike: 2, ..Counts::default() }, ..queued(&[]) };
        assert_eq!(passed_over(&view), [alike_sentence(2)]);
    }

    #[test]
    fn a_scan_counts_in_words() {
        let scan = |files| scan_sentence(&ScanView { library: "music".into(), files });
        assert_eq!(scan(1), "Looking through “music”: 1 audio file so far…");
        assert_eq!(scan(1200), "Looking through “music”: 1\u{202f}200 audio files so far…");
    }
}
