//! The session's invitations: their codes, their limits and how much each has been used.

use chaarfm_api::{InvitationView, NewInvitation};
use chaarfm_domain::InvitationLimits;
use leptos::{ev::SubmitEvent, prelude::*};

use super::Control;
use crate::{api, format};

/// Milliseconds of a day.
const DAY_MILLIS: f64 = 24.0 * 60.0 * 60.0 * 1000.0;

/// Unit of the form's field for audio data, in bytes.
const GIB: u64 = 1 << 30;

/// The invitation to share: the chosen one, or else the first that is open.
pub(super) fn shared(invitations: &[InvitationView], chosen: Option<i64>) -> Option<&InvitationView> {
    let open = || invitations.iter().filter(|invitation| invitation.is_open);
    open().find(|invitation| Some(invitation.id) == chosen).or_else(|| open().next())
}

#[component]
pub(crate) fn Invitations() -> impl IntoView {
    let control = expect_context::<Control>();
    let ids = control.pick(|view| view.invitations.iter().map(|invitation| invitation.id).collect::<Vec<_>>());
    view! {
        <section class="card">
            <h2>"Invitations"</h2>
            <ul class="invitations" id="invitations">
                <For each=move || ids.get() key=|id| *id let:id>
                    <Invitation id />
                </For>
            </ul>
            <NewInvitationForm />
        </section>
    }
}

#[component]
fn Invitation(id: i64) -> impl IntoView {
    let control = expect_context::<Control>();
    let invitation = control.pick(move |view| view.invitations.iter().find(|invitation| invitation.id == id).cloned());
    let part = move |part: fn(&InvitationView) -> String| {
        move || invitation.with(|invitation| invitation.as_ref().map(part).unwrap_or_default())
    };
    let is_open =
        Memo::new(move |_| invitation.with(|invitation| invitation.as_ref().is_some_and(|some| some.is_open)));
    let is_revoked =
        Memo::new(move |_| invitation.with(|invitation| invitation.as_ref().is_none_or(|some| some.is_revoked)));
    let is_shared = move || control.shared().is_some_and(|shared| shared.id == id);
    let asks = RwSignal::new(false);
    view! {
        <li class="invitation">
            <p>
                <strong>{part(|invitation| invitation.name.clone())}</strong>
                " "
                <Show when=move || is_open.get()>
                    <code class="piece">{part(|invitation| invitation.code.to_string())}</code>
                </Show>
            </p>
            <p class="hint">{part(|invitation| standing(invitation, js_sys::Date::now()))}</p>
            <p class="hint">{part(counts)}</p>
            <Show when=move || !is_revoked.get()>
                <div class="buttons">
                    <Show when=move || is_open.get() && !is_shared()>
                        <button type="button" class="quiet" on:click=move |_| control.share(id)>
                            "Share this one"
                        </button>
                    </Show>
                    <button
                        type="button"
                        class="quiet"
                        title="The code from before lets nobody in any more; who has joined stays"
                        on:click=move |_| {
                            if let Some(session) = control.code().filter(|_| control.may_wish()) {
                                control.wish(api::rotate_invitation(session, id));
                            }
                        }
                        aria-disabled=move || control.is_blocked().to_string()
                    >
                        "New code"
                    </button>
                    <button
                        type="button"
                        class="quiet danger"
                        on:click=move |_| {
                            let is_sure = asks.get_untracked();
                            asks.set(!is_sure);
                            if let Some(session) = control.code().filter(|_| is_sure && control.may_wish()) {
                                control.wish(api::revoke_invitation(session, id));
                            }
                        }
                        aria-disabled=move || control.is_blocked().to_string()
                    >
                        {move || if asks.get() { "Revoke, and send its workers away" } else { "Revoke…" }}
                    </button>
                </div>
            </Show>
        </li>
    }
}

/// Reads a whole number; none for an empty field. Other texts are an error, never "no limit".
fn number(field: RwSignal<String>) -> Result<Option<u64>, String> {
    let text = field.get_untracked();
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("“{text}” is no whole number; leave the field empty for no limit"))
}

/// Form for a new invitation.
#[component]
fn NewInvitationForm() -> impl IntoView {
    let control = expect_context::<Control>();
    let [name, days, workers, uses, gib] = ["", "7", "", "", ""].map(|text| RwSignal::new(text.to_owned()));
    let problem = RwSignal::new(None::<String>);
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let Some(session) = control.code().filter(|_| control.may_wish()) else { return };
        let [days, max_workers, max_uses, gib] = match [days, workers, uses, gib].map(number) {
            [Ok(days), Ok(workers), Ok(uses), Ok(gib)] => [days, workers, uses, gib],
            numbers => {
                problem.set(numbers.into_iter().find_map(Result::err));
                return;
            }
        };
        let max_bytes = gib.map(|gib| gib.saturating_mul(GIB));
        let days = days.map(|days| u32::try_from(days).unwrap_or(u32::MAX));
        let wish = NewInvitation { name: name.get_untracked(), days, max_workers, max_uses, max_bytes };
        control.wish_and(api::invite(session, wish), move |told| {
            if told.is_none() {
                name.try_set(String::new());
            }
            problem.try_set(told);
        });
    };
    let field = move |label: &'static str, id: &'static str, text: RwSignal<String>| {
        view! {
            <label for=id>{label}</label>
            <input id=id type="text" inputmode="numeric" bind:value=text />
        }
    };
    view! {
        <details class="new-invitation">
            <summary>"Invite others by a code of their own"</summary>
            <form on:submit=submit>
                <label for="invitation-name">"Name, such as friends or lab"</label>
                <input id="invitation-name" type="text" maxlength="64" required bind:value=name />
                {field("Days for which the code is good", "invitation-days", days)}
                {field("Workers at a time, at most", "invitation-workers", workers)}
                {field("Workers ever, at most", "invitation-uses", uses)}
                {field("Audio, at most so many GiB", "invitation-gib", gib)}
                {move || problem.get().map(|problem| view! { <p class="field-problem" role="alert">{problem}</p> })}
                <button type="submit" class="button" aria-disabled=move || control.is_blocked().to_string()>
                    "Make the invitation"
                </button>
            </form>
        </details>
    }
}

/// Whether it is open, and for how long.
fn standing(invitation: &InvitationView, now_ms: f64) -> String {
    let left = (invitation.expires_at_ms as f64 - now_ms) / DAY_MILLIS;
    match invitation {
        InvitationView { is_revoked: true, .. } => "Revoked".to_owned(),
        InvitationView { is_open: true, .. } if left < 1.0 => "Lets in whoever is new for less than a day".to_owned(),
        InvitationView { is_open: true, .. } => {
            format!("Lets in whoever is new for {}", format::counted(left as u64, "day", "days"))
        }
        _ if left <= 0.0 => "Expired; who has joined stays".to_owned(),
        _ => "Used up; who has joined stays".to_owned(),
    }
}

/// How much it has been used.
fn counts(invitation: &InvitationView) -> String {
    let InvitationLimits { max_workers, max_uses, max_bytes } = invitation.limits;
    let of = |max: Option<String>| max.map(|max| format!(" of {max}")).unwrap_or_default();
    format!(
        "{}{} here now · {}{} joined ever · {}{} of audio",
        format::grouped(invitation.workers),
        of(max_workers.map(format::grouped)),
        format::grouped(invitation.uses),
        of(max_uses.map(format::grouped)),
        format::bytes(invitation.bytes),
        of(max_bytes.map(format::bytes)),
    )
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn invitation(id: i64, is_open: bool) -> InvitationView {
        InvitationView {
            id,
            code: "K7Q-M4X-WDP".parse().unwrap(),
            name: "lab".into(),
            created_at_ms: 0,
            expires_at_ms: 7 * DAY_MILLIS as u64,
            is_revoked: false,
            is_open,
            limits: InvitationLimits::default(),
            uses: 2,
            bytes: 0,
            workers: 1,
        }
    }

    #[test]
    fn what_is_shared_lets_somebody_in() {
        let all = [invitation(1, false), invitation(2, true), invitation(3, true)];
        let shared = |chosen| shared(&all, chosen).map(|invitation| invitation.id);
        assert_eq!([shared(None), shared(Some(3)), shared(Some(1))], [Some(2), Some(3), Some(2)]);
        assert_eq!(super::shared(&all[..1], None), None);
    }

    #[test]
    fn says_for_how_long_and_for_how_many() {
        let open = invitation(1, true);
        assert_eq!(standing(&open, 0.0), "Lets in whoever is new for 7 days");
        assert_eq!(standing(&open, 6.5 * DAY_MILLIS), "Lets in whoever is new for less than a day");
        let over = invitation(1, false);
        assert_eq!(standing(&over, 0.0), "Used up; who has joined stays");
        assert_eq!(standing(&over, 8.0 * DAY_MILLIS), "Expired; who has joined stays");
        assert_eq!(standing(&InvitationView { is_revoked: true, ..over }, 0.0), "Revoked");
        let limits = InvitationLimits { max_workers: Some(5), ..InvitationLimits::default() };
        let counts = counts(&InvitationView { limits, ..open });
        assert_eq!(counts, "1 of 5 here now · 2 joined ever · 0 bytes of audio");
    }
}
