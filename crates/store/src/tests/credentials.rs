//! Credentials.

use chaarfm_domain::Role;

use super::*;

on_engines! {
    all {}
    databases {
        a_token_has_its_name_alone_until_it_is_revoked
        a_link_lets_one_browser_in
        what_lets_in_for_a_while_ends
    }
}

fn credential(kind: CredentialKind, name: &str, expires: Option<Timestamp>) -> NewCredential<'_> {
    NewCredential { kind, role: Role::Owner, name, hash: "hash", now: T0, expires }
}

async fn a_token_has_its_name_alone_until_it_is_revoked(fixture: Fixture) {
    let store = &fixture.store;
    let reader = NewCredential { role: Role::Reader, ..credential(CredentialKind::Token, "b", None) };
    let id = store.add_credential(reader).await.unwrap().unwrap();
    assert_eq!(store.add_credential(credential(CredentialKind::Token, "b", None)).await.unwrap(), None);
    let other = store.add_credential(credential(CredentialKind::Token, "a", None)).await.unwrap().unwrap();
    // Links have no names, and there may be several.
    for _ in 0..2 {
        store.add_credential(credential(CredentialKind::Link, "", Some(LATER))).await.unwrap().unwrap();
    }
    let expected = Credential {
        id,
        kind: CredentialKind::Token,
        role: Role::Reader,
        name: "b".into(),
        hash: "hash".into(),
        created: T0,
    };
    assert_eq!(store.credential(id, LATER).await.unwrap(), Some(expected.clone()), "it does not expire");
    let tokens = store.tokens().await.unwrap();
    assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [other, id], "by name");
    assert_eq!(tokens[1], expected);
    assert_eq!((store.revoke_token("b").await.unwrap(), store.revoke_token("b").await.unwrap()), (true, false));
    assert_eq!(store.credential(id, T0).await.unwrap(), None);
    let again = store.add_credential(credential(CredentialKind::Token, "b", None)).await.unwrap().unwrap();
    assert!(again > other, "a number is never another's");
}

async fn a_link_lets_one_browser_in(fixture: Fixture) {
    let store = &fixture.store;
    let link = store.add_credential(credential(CredentialKind::Link, "", Some(LATER))).await.unwrap().unwrap();
    let browser = NewCredential { hash: "other", ..credential(CredentialKind::Browser, "", Some(LATER)) };
    assert!(!store.has_browsers(T0).await.unwrap());
    let used = futures_util::future::join_all((0..4).map(|_| store.use_link(link, browser))).await;
    assert_eq!(used.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 1);
    let found = store.credential(link, T0).await.unwrap().unwrap();
    assert_eq!((found.kind, found.hash.as_str()), (CredentialKind::Browser, "other"));
    assert!(store.has_browsers(T0).await.unwrap() && !store.has_browsers(LATER).await.unwrap());
    let token = store.add_credential(credential(CredentialKind::Token, "t", None)).await.unwrap().unwrap();
    assert!(!store.use_link(token, browser).await.unwrap(), "a token is no link");
    assert_eq!(store.end_browsers().await.unwrap(), 1);
    assert!(
        store.credential(link, T0).await.unwrap().is_none() && store.credential(token, T0).await.unwrap().is_some()
    );
}

async fn what_lets_in_for_a_while_ends(fixture: Fixture) {
    let store = &fixture.store;
    let link = store.add_credential(credential(CredentialKind::Link, "", Some(LATER))).await.unwrap().unwrap();
    assert!(store.credential(link, Timestamp(LATER.0 - 1)).await.unwrap().is_some());
    assert_eq!(store.credential(link, LATER).await.unwrap(), None);
    let browser = NewCredential { now: LATER, ..credential(CredentialKind::Browser, "", None) };
    assert!(!store.use_link(link, browser).await.unwrap());
    // Adding a credential deletes expired ones.
    let late = NewCredential { now: LATER, ..credential(CredentialKind::Link, "", Some(Timestamp(LATER.0 * 2))) };
    store.add_credential(late).await.unwrap().unwrap();
    assert_eq!(store.end_browsers().await.unwrap(), 1, "the first is not there any more");
}
