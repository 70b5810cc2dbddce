//! Vectors and their collections.

use super::*;

on_engines! {
    all {
        a_vector_comes_out_as_it_went_in
        every_number_of_a_vector_survives
    }
    databases {
        vectors_are_counted_as_they_come_and_go
    }
}

async fn a_vector_comes_out_as_it_went_in(fixture: Fixture) {
    fixture.scan("first", &[file("a/b.mp3", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    fixture.answer(held.job.id, "t1", Outcome::Done(vector())).await.unwrap();
    let stored = &fixture.store.vectors("first", 0, 10).await.unwrap()[0];
    let sent = vector();
    assert_eq!((&stored.embedding, &stored.tags), (&sent.embedding, &sent.tags));
    assert_eq!((stored.seconds, &stored.flags, stored.track.file.as_str()), (12.5, &sent.flags, "a/b.mp3"));
    let Maker { kind, device, .. } = maker();
    assert_eq!((stored.kind, &stored.device, stored.content_hash.as_str()), (kind, &device, "1"));
    assert_eq!(fixture.store.count_vectors("first").await.unwrap(), Some(1));
    assert_eq!(fixture.store.count_vectors("never").await.unwrap(), None);
}

async fn every_number_of_a_vector_survives(fixture: Fixture) {
    fixture.scan("first", &[file("a", "1")]).await;
    let held = fixture.claim("t1", T0).await.unwrap();
    let mut sent = vector();
    let awkward = [0.1, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN, 1.0 / 3.0, 16_777_217.0];
    sent.embedding[..awkward.len()].copy_from_slice(&awkward);
    fixture.answer(held.job.id, "t1", Outcome::Done(sent.clone())).await.unwrap();
    let stored = &fixture.store.vectors("first", 0, 1).await.unwrap()[0];
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&stored.embedding), bits(&sent.embedding));
}

async fn vectors_are_counted_as_they_come_and_go(fixture: Fixture) {
    let counts = async || {
        let views = fixture.store.collections().await.unwrap();
        for view in &views {
            assert_eq!(fixture.store.count_vectors(&view.name).await.unwrap(), Some(view.vectors), "{view:?}");
        }
        views.into_iter().map(|view| (view.name, view.vectors)).collect::<Vec<_>>()
    };
    let expect =
        |expected: &[(&str, u64)]| expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(counts().await, []);
    fixture.scan("second", &[file("a", "1"), file("b", "2"), file("c", "3")]).await;
    for token in ["t1", "t2"] {
        let held = fixture.claim(token, T0).await.unwrap();
        fixture.answer(held.job.id, token, Outcome::Done(vector())).await.unwrap();
    }
    // Their vectors are copied.
    fixture.scan("first", &[file("a", "1"), file("b", "2")]).await;
    assert_eq!(counts().await, expect(&[("first", 2), ("second", 2)]));
    // The program itself does not do this, but an operator may.
    fixture
        .run("UPDATE chaarfm.vectors SET collection = 'third' WHERE collection = 'first' AND content_hash = '1'")
        .await;
    assert_eq!(counts().await, expect(&[("first", 1), ("second", 2), ("third", 1)]));
    fixture.run("DELETE FROM chaarfm.vectors WHERE collection <> 'second' OR content_hash = '1'").await;
    assert_eq!(counts().await, expect(&[("second", 1)]));
    assert_eq!(fixture.store.count_vectors("third").await.unwrap(), None, "nobody has ever named it");
}
