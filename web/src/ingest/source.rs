//! The form for the next run: a library, the collection for its vectors, and the model.

use chaarfm_api::{AddedLibraryView, LibraryView, ModelView, SessionView, StartRequest};
use chaarfm_domain::Counts;
use chaarfm_protocol::{PairingCode, SessionState};
use leptos::{ev::SubmitEvent, prelude::*, task::spawn_local};

use super::Control;
use crate::{
    api, format,
    parts::{Notice, focus_moves_on},
};

/// Longest path or address of a library, in characters.
const MAX_LOCATION_CHARS: usize = 4096;

/// Longest name of a collection, in characters.
const MAX_COLLECTION_CHARS: usize = 64;

/// The owner's choices so far. They outlive the form, which is hidden during a run.
#[derive(Clone, Copy, Default)]
pub(super) struct Choice {
    pub(super) library: RwSignal<String>,
    collection: RwSignal<String>,
    model: RwSignal<String>,
    every_file: RwSignal<bool>,
    /// Incremented when a library is added.
    added: RwSignal<u32>,
    /// Why the library added last will be missing after a restart.
    passing: RwSignal<Option<String>>,
}

impl Choice {
    /// Adopts the session's last collection and model, wherever they were chosen: otherwise an owner who continues with
    /// a library would have it computed again, into another collection. From a new session, adopts them only if nothing
    /// is chosen yet.
    fn follow(self, session: &SessionView) {
        let is_new = session.state == SessionState::Idle && session.counts == Counts::default();
        if !is_new || self.collection.with_untracked(String::is_empty) {
            self.collection.set(session.collection.clone());
            self.model.set(session.model.clone());
        }
    }
}

/// A run that was started on this page and not stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    code: PairingCode,
    library: String,
    /// The session's job counts before the run.
    before: Counts,
}

impl Begun {
    /// A message for a run that ended without a track, which the coordinator reports only in its log.
    fn without_tracks(&self, code: PairingCode, state: SessionState, counts: Counts) -> Option<String> {
        let is_over = matches!(state, SessionState::Idle | SessionState::Complete);
        if !is_over || code != self.code || counts != (Counts { skipped: 0, alike: 0, ..self.before }) {
            return None;
        }
        Some(match counts.failed {
            0 => format!("No audio files in “{}”.", self.library),
            // The failed tracks may belong to this library, and have failed again.
            _ => format!("Nothing new in “{}”.", self.library),
        })
    }
}

/// The form. Libraries and models are fetched again with every connection; the choices stay.
#[component]
pub(crate) fn SourceForm() -> impl IntoView {
    let control = expect_context::<Control>();
    let choice = control.choice;
    control.view.with_untracked(|view| {
        if let Some(session) = view {
            choice.follow(session);
        }
    });
    let without_tracks = Memo::new(move |_| {
        let begun = control.begun.get()?;
        control.view.with(|view| {
            let session = view.as_ref()?;
            begun.without_tracks(session.code, session.state, session.counts)
        })
    });
    let choices = LocalResource::new(move || {
        control.track_connection();
        choice.added.track();
        async { Ok::<_, api::ApiError>((api::libraries().await?, api::models().await?)) }
    });
    focus_moves_on("#source", "state-line");
    view! {
        {move || {
            without_tracks
                .get()
                .map(|sentence| {
                    view! {
                        <Notice tone="warning">
                            <span id="without-tracks">{sentence}</span>
                        </Notice>
                    }
                })
        }}
        {move || match choices.get() {
            None => view! { <p class="hint" role="status">"Asking for libraries…"</p> }.into_any(),
            Some(Err(error)) => view! { <Notice tone="error">{format::sentence(&error.to_string())}</Notice> }.into_any(),
            Some(Ok((libraries, _))) if libraries.is_empty() => view! { <NoLibrary choice /> }.into_any(),
            Some(Ok((libraries, models))) => {
                view! {
                    <Choices libraries models choice />
                    <details class="advanced" id="more-libraries">
                        <summary>"Add a library"</summary>
                        <AddLibrary choice />
                    </details>
                }
                    .into_any()
            }
        }}
        {move || choice.passing.get().map(|problem| view! { <Notice tone="warning">{format::sentence(&problem)}</Notice> })}
    }
}

#[component]
fn NoLibrary(choice: Choice) -> impl IntoView {
    view! {
        <div class="empty" id="no-library">
            <p>
                <strong>"No library yet."</strong>
                " Which folder holds your music?"
            </p>
            <AddLibrary choice />
        </div>
    }
}

/// A form to add a folder or a bucket. The coordinator accepts that only from its own machine, and says so.
#[component]
fn AddLibrary(choice: Choice) -> impl IntoView {
    let location = RwSignal::new(String::new());
    let problem = RwSignal::new(None::<String>);
    let busy = RwSignal::new(false);
    let is_blocked = move || busy.get() || location.with(|location| location.trim().is_empty());
    let add = move |event: SubmitEvent| {
        event.prevent_default();
        if untrack(is_blocked) {
            return;
        }
        busy.set(true);
        problem.set(None);
        spawn_local(async move {
            let answer = api::add_library(location.get_untracked().trim().to_owned()).await;
            // The form may have been closed meanwhile.
            if busy.try_set(false).is_some() {
                return;
            }
            match answer {
                Ok(AddedLibraryView { name, problem }) => {
                    choice.library.set(name);
                    choice.passing.set(problem);
                    choice.added.update(|count| *count += 1);
                }
                Err(error) => problem.set(Some(format::sentence(&error.to_string()))),
            }
        });
    };
    view! {
        <form class="source" id="add-library" on:submit=add novalidate>
            <div class="field field-wide">
                <label for="location">"Folder on the coordinator's machine"</label>
                <input
                    id="location"
                    type="text"
                    autocomplete="off"
                    autocapitalize="none"
                    spellcheck="false"
                    placeholder="/home/me/Music"
                    maxlength=MAX_LOCATION_CHARS
                    prop:value=location
                    on:input:target=move |event| location.set(event.target().value())
                    aria-invalid=move || problem.with(Option::is_some).to_string()
                    aria-describedby="location-problem"
                />
                <p id="location-problem" class="field-problem" role="alert">{problem}</p>
            </div>
            <div class="buttons">
                <button type="submit" id="add" class="button" aria-disabled=move || is_blocked().to_string()>
                    "Add"
                </button>
                <span class="hint">"Or a bucket: s3://BUCKET/PREFIX."</span>
            </div>
        </form>
    }
}

#[component]
fn Choices(libraries: Vec<LibraryView>, models: Vec<ModelView>, choice: Choice) -> impl IntoView {
    let control = expect_context::<Control>();
    let Choice { library, collection, model, every_file, .. } = choice;
    let is = |chosen: RwSignal<String>, name: &str| chosen.with_untracked(|chosen| chosen == name);
    if !libraries.iter().any(|known| known.problem.is_none() && is(library, &known.name)) {
        let present = libraries.iter().find(|known| known.problem.is_none());
        library.set(present.map(|known| known.name.clone()).unwrap_or_default());
    }
    if !models.iter().any(|known| is(model, &known.name)) {
        let preset = models.iter().find(|known| known.default).or(models.first());
        model.set(preset.map(|known| known.name.clone()).unwrap_or_default());
    }
    let absent: Vec<_> = libraries.iter().filter_map(|known| known.problem.clone()).collect();
    let absent =
        absent.into_iter().map(|problem| view! { <p class="hint">{format::sentence(&problem)}</p> }).collect_view();
    let problem = Memo::new(move |_| collection.with(|name| collection_problem(name)));
    let description = {
        let models = models.clone();
        move || models.iter().find(|known| known.name == model.get()).map(|known| known.description.clone())
    };
    let start = move |event: SubmitEvent| {
        event.prevent_default();
        if problem.get_untracked().is_some() || library.with_untracked(String::is_empty) || !control.may_wish() {
            return;
        }
        let Some(code) = control.code() else { return };
        let before = control.view.with_untracked(|view| view.as_ref().map(|view| view.counts).unwrap_or_default());
        let begun = Begun { code, library: library.get_untracked(), before };
        let request = StartRequest {
            library: library.get_untracked(),
            collection: collection.get_untracked(),
            model: Some(model.get_untracked()).filter(|name| !name.is_empty()),
            every_file: every_file.get_untracked(),
        };
        control.begun.set(None);
        control.problem.set(None);
        control.wish_and(async move { api::start(code, &request).await }, move |problem| {
            if problem.is_none() {
                control.begun.set(Some(begun));
            }
            control.problem.set(problem);
        });
    };
    view! {
        <form class="source" id="source" on:submit=start novalidate>
            <div class="field">
                <label for="library">"Library"</label>
                <select id="library" on:change:target=move |event| library.set(event.target().value())>
                    {libraries
                        .into_iter()
                        .map(|LibraryView { name, problem }| {
                            let shown = if problem.is_some() { format!("{name} (absent)") } else { name.clone() };
                            view! {
                                <option value=name.clone() selected=is(library, &name) disabled=problem.is_some()>
                                    {shown}
                                </option>
                            }
                        })
                        .collect_view()}
                </select>
                {absent}
            </div>
            <div class="field">
                <label for="collection">"Collection for the vectors"</label>
                <input
                    id="collection"
                    type="text"
                    autocomplete="off"
                    autocapitalize="none"
                    spellcheck="false"
                    maxlength=MAX_COLLECTION_CHARS
                    prop:value=collection
                    on:input:target=move |event| collection.set(event.target().value())
                    aria-invalid=move || problem.with(Option::is_some).to_string()
                    aria-describedby="collection-problem"
                />
                <p id="collection-problem" class="field-problem" role="alert">{problem}</p>
            </div>
            <div class="field field-wide">
                <label for="model">"Model"</label>
                <select id="model" on:change:target=move |event| model.set(event.target().value())>
                    {models
                        .into_iter()
                        .map(|ModelView { name, .. }| {
                            view! { <option value=name.clone() selected=is(model, &name)>{name.clone()}</option> }
                        })
                        .collect_view()}
                </select>
                <p class="hint">{description}</p>
            </div>
            <div class="field field-wide">
                <label class="switch" for="every-file">
                    <input
                        id="every-file"
                        type="checkbox"
                        prop:checked=every_file
                        on:change:target=move |event| every_file.set(event.target().checked())
                    />
                    "Analyse every file"
                </label>
                <p class="hint">
                    "Otherwise one that has the artist, the title and the length (± 2 s) of another track is taken for the same."
                </p>
            </div>
            <div class="buttons">
                <button
                    type="submit"
                    id="start"
                    class="button"
                    aria-disabled=move || {
                        (control.is_blocked() || problem.with(Option::is_some) || library.with(String::is_empty)).to_string()
                    }
                >
                    "Start"
                </button>
                <span class="hint">"Tracks that the collection has already are skipped."</span>
            </div>
        </form>
    }
}

/// What is wrong with a collection's name, by the coordinator's rule.
fn collection_problem(name: &str) -> Option<String> {
    let is_known = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let count = name.chars().count();
    if count == 0 {
        Some("A collection needs a name.".into())
    } else if let Some(other) = name.chars().find(|c| !is_known(c)) {
        let shown = if other == ' ' { "a space".into() } else { format!("“{other}”") };
        Some(format!("Only a–z, 0–9, “_” and “-” are allowed, not {shown}."))
    } else if count > MAX_COLLECTION_CHARS {
        Some(format!("At most {MAX_COLLECTION_CHARS} characters; these are {count}."))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_library_without_tracks_is_named() {
        let code: PairingCode = "K7Q-M4X-WDP".parse().unwrap();
        let before = Counts { done: 5, skipped: 2, ..Counts::default() };
        let begun = Begun { code, library: "music".into(), before };
        let after = |state, counts| begun.without_tracks(code, state, counts);
        let nothing = Counts { skipped: 0, ..before };
        assert_eq!(after(SessionState::Complete, nothing).unwrap(), "No audio files in “music”.");
        assert_eq!(after(SessionState::Running, nothing), None, "it may find some yet");
        assert_eq!(after(SessionState::Complete, Counts { skipped: 1, ..nothing }), None);
        assert_eq!(after(SessionState::Complete, Counts { done: 6, ..nothing }), None);
        let another = "ACD-EFG-HJK".parse().unwrap();
        assert_eq!(begun.without_tracks(another, SessionState::Complete, nothing), None, "another session's counts");

        let begun = Begun { before: Counts::default(), ..begun };
        let empty = begun.without_tracks(code, SessionState::Idle, Counts::default());
        assert_eq!(empty.unwrap(), "No audio files in “music”.");
    }

    #[test]
    fn tracks_that_failed_before_may_have_failed_again() {
        let code: PairingCode = "K7Q-M4X-WDP".parse().unwrap();
        let before = Counts { failed: 3, ..Counts::default() };
        let begun = Begun { code, library: "music".into(), before };
        let after = begun.without_tracks(code, SessionState::Complete, before);
        assert_eq!(after.unwrap(), "Nothing new in “music”.");
    }

    #[test]
    fn good_names_pass() {
        for name in ["music", "a", "2024-live_sets", &"x".repeat(64)] {
            assert_eq!(collection_problem(name), None, "{name}");
        }
    }

    #[test]
    fn bad_names_say_why() {
        let problem = |name: &str| collection_problem(name).unwrap();
        assert_eq!(problem(""), "A collection needs a name.");
        assert!(problem("my music").ends_with("not a space."));
        assert!(problem("Jazz").ends_with("not “J”."));
        assert!(problem("músic").ends_with("not “ú”."));
        assert!(problem(&"x".repeat(65)).ends_with("these are 65."));
    }
}
