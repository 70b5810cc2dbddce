//! Invitations, and the keys that are registered with them.

use super::*;

on_engines! {
    all {
        the_code_of_a_session_is_its_first_invitation
        a_code_lets_in_until_it_expires_and_a_key_for_longer
        an_invitation_has_another_code_or_is_revoked_without_the_session
        an_invitation_is_used_as_often_as_it_may_be
        what_an_invitation_may_have_is_given_and_no_more
        invitations_are_forgotten_with_their_session
        what_a_worker_has_made_can_be_retracted
    }
    databases {
        a_vector_remembers_who_made_it
    }
}

const WEEK_LATER: Timestamp = Timestamp(T0.0 + 7 * SECONDS_PER_DAY * 1000);

/// Another invitation of the fixture's session.
fn fresh(fixture: &Fixture, bits: u64, limits: InvitationLimits) -> FreshInvitation<'static> {
    let session = fixture.session.id;
    let code = PairingCode::from_random(bits);
    FreshInvitation { session, code, name: "lab", limits, now: T0, expires: WEEK_LATER }
}

async fn first(fixture: &Fixture) -> Invitation {
    fixture.store.invitations(fixture.session.id).await.unwrap().remove(0)
}

async fn the_code_of_a_session_is_its_first_invitation(fixture: Fixture) {
    let (store, code) = (&fixture.store, fixture.session.code);
    let first = first(&fixture).await;
    assert_eq!((first.code, first.name.as_str(), first.created, first.expires), (code, "first", T0, WEEK_LATER));
    assert_eq!((first.limits, first.uses, first.bytes), (InvitationLimits::default(), 0, 0));
    let invited = store.invited(Some(&code), "k", T0).await.unwrap().unwrap();
    assert_eq!((invited.session, invited.is_known, &invited.invitation), (code, false, &first));
    let other = store.add_invitation(fresh(&fixture, 7, InvitationLimits::default())).await.unwrap().unwrap();
    let all = store.invitations(fixture.session.id).await.unwrap();
    assert_eq!(all, [first, other], "in the order in which they were made");
}

async fn a_code_lets_in_until_it_expires_and_a_key_for_longer(fixture: Fixture) {
    let (store, code) = (&fixture.store, Some(&fixture.session.code));
    let first = first(&fixture).await;
    for connection in ["one", "another, which joins at the same time"] {
        assert!(store.use_invitation(first.id, "k", "::1", T0).await.unwrap(), "{connection}");
    }
    let just = Timestamp(WEEK_LATER.0 - 1);
    assert!(store.invited(code, "new", just).await.unwrap().is_some());
    assert_eq!(store.invited(code, "new", WEEK_LATER).await.unwrap(), None);
    assert!(!store.use_invitation(first.id, "new", "", WEEK_LATER).await.unwrap());
    for code in [code, Some(&PairingCode::from_random(99)), None] {
        let known = store.invited(code, "k", LATER).await.unwrap().unwrap();
        assert!(known.is_known && known.invitation.uses == 1);
    }
    let origin = Origin { invitation: first.id, address: "::1".into() };
    assert_eq!(store.origin("k").await.unwrap(), Some(origin));
    assert_eq!(store.origin("new").await.unwrap(), None);
}

async fn an_invitation_has_another_code_or_is_revoked_without_the_session(fixture: Fixture) {
    let (store, session) = (&fixture.store, fixture.session.id);
    let first = first(&fixture).await;
    let (old, new) = (fixture.session.code, PairingCode::from_random(8));
    assert!(store.use_invitation(first.id, "k", "", T0).await.unwrap());
    assert!(store.rotate_invitation(session, first.id, new, LATER).await.unwrap());
    assert_eq!(store.invited(Some(&old), "x", T0).await.unwrap(), None);
    assert_eq!(store.invited(Some(&new), "x", WEEK_LATER).await.unwrap().unwrap().session, old);
    assert!(store.invited(Some(&old), "k", T0).await.unwrap().unwrap().is_known, "who is in stays in");
    assert!(!store.revoke_invitation(SessionId(session.0 + 1), first.id, T0).await.unwrap(), "another session's");
    assert!(store.revoke_invitation(session, first.id, T0).await.unwrap());
    for key in ["k", "x"] {
        assert_eq!(store.invited(Some(&new), key, T0).await.unwrap(), None);
    }
    assert!(!store.revoke_invitation(session, first.id, T0).await.unwrap(), "once");
    assert!(!store.rotate_invitation(session, first.id, PairingCode::from_random(9), LATER).await.unwrap());
    assert!(!store.use_invitation(first.id, "x", "", T0).await.unwrap());
    // The same worker may return by another invitation, and the session continues.
    let other = store.add_invitation(fresh(&fixture, 7, InvitationLimits::default())).await.unwrap().unwrap();
    assert!(store.use_invitation(other.id, "k", "", T0).await.unwrap());
    assert_eq!(store.invited(None, "k", T0).await.unwrap().unwrap().invitation.id, other.id);
    assert!(!store.session(&old).await.unwrap().unwrap().flags.ended);
}

async fn an_invitation_is_used_as_often_as_it_may_be(fixture: Fixture) {
    let store = &fixture.store;
    let limits = InvitationLimits { max_uses: Some(2), ..InvitationLimits::default() };
    let few = store.add_invitation(fresh(&fixture, 7, limits)).await.unwrap().unwrap();
    let keys: Vec<String> = (0..6).map(|number| format!("k{number}")).collect();
    let used = futures_util::future::join_all(keys.iter().map(|key| store.use_invitation(few.id, key, "", T0))).await;
    assert_eq!(used.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 2);
    assert_eq!(store.invited(Some(&few.code), "new", T0).await.unwrap(), None);
    for bits in 100..100 + MAX_INVITATIONS as u64 - 2 {
        assert!(store.add_invitation(fresh(&fixture, bits, limits)).await.unwrap().is_some());
    }
    assert_eq!(store.add_invitation(fresh(&fixture, 99, limits)).await.unwrap(), None, "there are enough");
}

async fn what_an_invitation_may_have_is_given_and_no_more(fixture: Fixture) {
    let store = &fixture.store;
    let session = fixture.session.id;
    let limits = InvitationLimits { max_bytes: Some(150), ..InvitationLimits::default() };
    let small = store.add_invitation(fresh(&fixture, 7, limits)).await.unwrap().unwrap();
    let order = ScanOrder { library: "lib", collection: "music", model: MODEL, every_file: false };
    let scan = store.begin_scan(session, order, T0).await.unwrap().unwrap();
    let files: Vec<Found> = (0..5).map(|number| file(&format!("{number}"), &format!("h{number}"))).collect();
    store.enqueue(&scan, &files, T0).await.unwrap().unwrap();
    let by = |id, lease: &str| Claim { invitation: id, ..claim("w", lease) };
    let claims = [by(small.id, "a"), by(small.id, "b"), by(small.id, "c"), by(first(&fixture).await.id, "d")];
    let claimed = store.claim(session, &claims, |_| true, T0).await.unwrap();
    let got: Vec<bool> = claimed.rows.iter().map(Option::is_some).collect();
    assert_eq!(got, [true, true, false, true], "the track that goes beyond is the last");
    let again = store.claim(session, &[by(small.id, "e")], |_| true, T0).await.unwrap();
    assert_eq!(again.rows, [None]);
    let bytes: Vec<u64> = store.invitations(session).await.unwrap().iter().map(|some| some.bytes).collect();
    assert_eq!(bytes, [100, 200]);
}

async fn invitations_are_forgotten_with_their_session(fixture: Fixture) {
    let store = &fixture.store;
    let first = first(&fixture).await;
    assert!(store.use_invitation(first.id, "k", "", T0).await.unwrap());
    store.create_session(new_session(2), 10).await.unwrap().unwrap();
    store.end_session(fixture.session.id, T0).await.unwrap();
    while store.prune(LATER, LATER).await.unwrap() {}
    assert_eq!(store.invitations(fixture.session.id).await.unwrap(), []);
    assert_eq!(store.invited(Some(&fixture.session.code), "k", T0).await.unwrap(), None);
    assert_eq!(store.origin("k").await.unwrap(), None);
}

/// The recorded maker of the only vector: the hash of a key, and an invitation.
pub(super) async fn maker_of(store: &Store) -> (Option<String>, Option<InvitationId>) {
    match &store.engine {
        store::Engine::Sqlite(engine) => {
            sqlx::query_as("SELECT worker_key, invitation FROM vectors").fetch_one(&engine.reader).await.unwrap()
        }
        store::Engine::Postgres(engine) => {
            sqlx::query_as("SELECT worker_key, invitation FROM chaarfm.vectors").fetch_one(&engine.pool).await.unwrap()
        }
        store::Engine::Memory(_) => panic!("nobody looks at it there"),
    }
}

async fn what_a_worker_has_made_can_be_retracted(fixture: Fixture) {
    let (store, session, liar) = (&fixture.store, fixture.session.id, maker().key);
    fixture.scan("first", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    let by_liar =
        [fixture.claim_for(&liar, "t1", T0).await.unwrap(), fixture.claim_for(&liar, "t2", T0).await.unwrap()];
    for (held, token) in by_liar.iter().zip(["t1", "t2"]) {
        fixture.answer(held.job.id, token, Outcome::Done(vector())).await.unwrap();
    }
    // The same vector in another collection, by its content.
    let other = store.create_session(new_session(2), 10).await.unwrap().unwrap();
    fixture.scan_for(&other, "second", &[file("a", "1")]).await;
    assert_eq!(store.vectors("second", 0, 10).await.unwrap().len(), 1);

    let ended = async |state, after| store.ended_by(session, &liar, state, after, 10).await.unwrap();
    let done = ended(JobState::Done, 0).await;
    assert_eq!(done, by_liar.each_ref().map(|held| held.job.id));
    assert_eq!((ended(JobState::Done, done[0]).await, ended(JobState::Failed, 0).await), (vec![done[1]], vec![]));
    assert_eq!(store.retract(session, &done, "another", T0).await.unwrap(), 0);
    assert_eq!(store.retract(session, &done, &liar, T0).await.unwrap(), 2);
    assert_eq!(fixture.counts().await, Counts { queued: 3, ..Counts::default() });
    for collection in ["first", "second"] {
        assert_eq!(store.vectors(collection, 0, 10).await.unwrap(), [], "{collection}");
    }
    assert_eq!(store.retract(session, &done, &liar, T0).await.unwrap(), 0, "once");
    let again = fixture.claim_for("honest", "t3", T0).await.unwrap();
    assert_eq!(again.job.id, done[0], "it stands where it stood");
    assert_eq!(fixture.answer(again.job.id, "t3", Outcome::Done(vector())).await, Ok(Answer::Stored));
}

async fn a_vector_remembers_who_made_it(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    let Maker { key, invitation, .. } = maker();
    assert_eq!(maker_of(&fixture.store).await, (Some(key), Some(invitation)));
}
