//! The life of a worker with a scripted coordinator, on a simulated clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use std::time::Duration;

use chaarfm_domain::LogLevel;
use chaarfm_protocol::{
    AcceptedAs, Failure, FailureKind, Outcome, ProgramRef, RefusalReason, RejectionReason, SessionState, Stage,
    ToServer, ToWorker,
    limits::{PING_INTERVAL_SECONDS, PROGRESS_INTERVAL_SECONDS},
};
use chaarfm_worker::{Exit, FetchError, Phase, Platform};
use world::{World, job, lease, stored_job};

/// Both ends must notice a dead peer within this time.
const DEAD_PEER_SECONDS: u64 = 30;

#[test]
fn fetches_the_next_job_while_one_is_in_analysis() {
    let world = World::new();
    world.fetch_takes(2);
    world.analysis_takes(60);
    let exit = world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::Job(job(2)));
        server.result(1).await;
        server.accept(1, AcceptedAs::Stored);
        server.result(2).await;
        server.accept(2, AcceptedAs::Stored);
        world.sleep_seconds(1).await;
        world.stop();
        assert_eq!(server.rest().await, [ToServer::Bye]);
    });
    assert_eq!(exit, Exit::Stopped);
    assert_eq!(
        world.journal(),
        ["0 fetch 1", "2 analyse 1", "2 fetch 2", "62 analysed 1", "62 analyse 2", "122 analysed 2"]
    );
    let last = world.last_status();
    assert_eq!((last.done, last.failed, last.phase), (2, 0, Phase::Stopped { reason: None }));
    assert!(world.statuses().iter().any(|status| {
        status.jobs.iter().map(|job| job.stage).eq([Stage::Analysing, Stage::Fetching])
            && status.session == Some(SessionState::Running)
    }));
}

#[test]
fn reports_progress_and_answers_pings_through_a_long_analysis() {
    let world = World::new();
    world.analysis_takes(120);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let mut reported = world.seconds();
        let mut pongs = 0;
        server.say(ToWorker::Ping);
        loop {
            match server.hear().await {
                ToServer::Progress { job, stage, .. } => {
                    assert_eq!(job, lease(1));
                    assert!(stage == Stage::Analysing || world.seconds() < 2.0);
                    assert!(world.seconds() - reported < PROGRESS_INTERVAL_SECONDS as f64 + 0.5);
                    reported = world.seconds();
                    server.say(ToWorker::Ping);
                }
                ToServer::Pong => pongs += 1,
                ToServer::Patches { job, .. } => assert_eq!(job, lease(1)),
                ToServer::Result { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(world.seconds() >= 120.0);
        assert!(pongs >= 23, "{pongs}");
        world.stop();
    });
}

#[test]
fn pings_when_it_has_nothing_to_say() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        for _ in 0..10 {
            let before = world.seconds();
            assert_eq!(server.hear().await, ToServer::Ping);
            assert!(world.seconds() - before < PING_INTERVAL_SECONDS as f64 + 0.5);
            server.say(ToWorker::Pong);
        }
        world.stop();
    });
}

#[test]
fn notices_a_dead_coordinator() {
    let world = World::new();
    world.play(async |world| {
        let server = world.welcome().await;
        let silent_since = world.seconds();
        let _again = world.welcome().await;
        assert!(world.seconds() - silent_since <= DEAD_PEER_SECONDS as f64);
        drop(server);
        world.stop();
    });
}

#[test]
fn does_not_wait_for_a_welcome_for_ever() {
    let world = World::new();
    world.play(async |world| {
        let (_mute, _) = world.greeted().await;
        let _heard = world.welcome().await;
        assert!(world.seconds() < 20.0);
        world.stop();
    });
}

#[test]
fn keeps_a_result_until_it_is_accepted_whatever_the_connection_does() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let first = server.result(1).await;
        drop(server);

        let (mut server, holding) = world.greeted().await;
        assert_eq!(holding, [lease(1)]);
        server.greet();
        assert_eq!(server.result(1).await, first);
        drop(server);

        let mut server = world.welcome().await;
        assert_eq!(server.result(1).await, first);
        server.accept(1, AcceptedAs::Repeated);
        drop(server);

        let (_server, holding) = world.greeted().await;
        assert_eq!(holding, []);
        world.stop();
    });
    assert_eq!(world.last_status().done, 1);
}

#[test]
fn sends_a_result_again_when_no_receipt_comes() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let first = server.result(1).await;
        let sent = world.seconds();
        let mut patches = 0;
        loop {
            match server.hear().await {
                ToServer::Ping => server.say(ToWorker::Pong),
                ToServer::Patches { first, length, embeddings, .. } => {
                    assert_eq!((first, usize::from(length)), (0, embeddings.0.len()), "from the first patch on");
                    patches += 1;
                }
                ToServer::Result { outcome, .. } => break assert_eq!(outcome, first),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(patches, 1, "what proves it comes again as well");
        assert!((30.0..31.0).contains(&(world.seconds() - sent)));
        world.stop();
    });
}

#[test]
fn works_on_while_the_coordinator_is_away() {
    let world = World::new();
    world.analysis_takes(40);
    world.play(async |world| {
        let server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::State { state: SessionState::Paused });
        world.sleep_seconds(10).await;
        world.refuse_connections(true);
        drop(server);
        world.sleep_seconds(120).await;
        world.refuse_connections(false);
        let mut server = world.welcome().await;
        let back = world.seconds();
        server.result(1).await;
        assert!(world.seconds() - back < 1.0);
        world.stop();
    });
    assert_eq!(world.journal(), ["0 fetch 1", "1 analyse 1", "41 analysed 1"]);
}

#[test]
fn drops_a_rejected_job_and_ends_its_analysis() {
    let world = World::new();
    world.analysis_takes(600);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::Job(job(2)));
        world.sleep_seconds(10).await;
        server.reject(1, RejectionReason::NotYourLease);
        world.sleep_seconds(10).await;
        server.reject(2, RejectionReason::UnknownJob);
        world.sleep_seconds(1).await;
        world.stop();
        let rest = server.rest().await;
        assert!(
            !rest.iter().any(|said| matches!(said, ToServer::Result { .. } | ToServer::Release { .. })),
            "{rest:?}"
        );
    });
    assert_eq!(
        world.journal(),
        ["0 fetch 1", "1 analyse 1", "1 fetch 2", "10 dropped 1", "10 analyse 2", "20 dropped 2"]
    );
    assert_eq!(world.last_status().failed, 0);
}

#[test]
fn a_vector_that_is_refused_counts_as_failed() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.result(1).await;
        server.reject(1, RejectionReason::InvalidVector);
        world.sleep_seconds(1).await;
        world.stop();
    });
    assert_eq!((world.last_status().done, world.last_status().failed), (0, 1));
    assert!(world.logged(LogLevel::Warning, "dropped A – track 1"));
}

#[test]
fn reports_a_failed_analysis() {
    let world = World::new();
    let failure = Failure { kind: FailureKind::Permanent, message: "it is HTML".into() };
    world.analysis_fails(failure.clone());
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        assert_eq!(server.result(1).await, Outcome::Failed(failure));
        server.accept(1, AcceptedAs::Recorded);
        world.sleep_seconds(1).await;
        world.stop();
    });
    assert_eq!((world.last_status().done, world.last_status().failed), (0, 1));
    assert!(world.logged(LogLevel::Error, "it is HTML"));
}

#[test]
fn tries_a_broken_fetch_again_and_gives_up_in_the_end() {
    let world = World::new();
    world.fetch_breaks(2);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        assert!(matches!(server.result(1).await, Outcome::Done(_)));
        server.accept(1, AcceptedAs::Stored);

        world.fetch_breaks(100);
        server.say(ToWorker::Job(job(2)));
        let Outcome::Failed(failure) = server.result(2).await else { panic!("the file never arrived") };
        assert_eq!(failure.kind, FailureKind::Passing);
        world.stop();
    });
    let fetches = |job: &str| world.journal().iter().filter(|line| line.ends_with(job)).count();
    assert_eq!((fetches("fetch 1"), fetches("fetch 2")), (3, 6));
}

#[test]
fn a_coordinator_that_is_away_for_a_minute_costs_no_try() {
    const UNAVAILABLE: FetchError = FetchError::Status(503);
    let world = World::new();
    world.fetch_fails(100, UNAVAILABLE);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.until(|_| world.seconds() > 60.0).await;
        world.fetch_fails(0, UNAVAILABLE);
        assert!(matches!(server.result(1).await, Outcome::Done(_)));
        server.accept(1, AcceptedAs::Stored);

        world.fetch_fails(100, UNAVAILABLE);
        server.say(ToWorker::Job(job(2)));
        let Outcome::Failed(failure) = server.result(2).await else { panic!("the file never arrived") };
        assert_eq!(failure.kind, FailureKind::Passing);
        world.stop();
    });
}

#[test]
fn a_file_that_is_gone_is_asked_for_once_and_fails_for_good() {
    let world = World::new();
    world.fetch_fails(1, FetchError::Status(410));
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let Outcome::Failed(failure) = server.result(1).await else { panic!("the file is gone") };
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains("not there any more"), "{}", failure.message);
        world.stop();
    });
    assert_eq!(world.journal(), ["0 fetch 1"]);
}

#[test]
fn fetches_from_the_storage_itself() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(stored_job(1)));
        assert!(matches!(server.result(1).await, Outcome::Done(_)));
        world.stop();
    });
    assert_eq!(world.journal(), ["0 fetch 1 from the storage", "1 analyse 1", "2 analysed 1"]);
}

#[test]
fn leaves_alone_for_a_while_a_storage_that_gives_nothing() {
    let world = World::new();
    world.storage_breaks_at(Some(0.0));
    world.play(async |world| {
        let mut server = world.welcome().await;
        for number in [1, 2] {
            server.say(ToWorker::Job(stored_job(number)));
            assert!(matches!(server.result(number).await, Outcome::Done(_)));
            server.accept(number, AcceptedAs::Stored);
        }
        // The worker answers pings meanwhile.
        server.until(|_| world.seconds() > 610.0).await;
        world.storage_breaks_at(None);
        server.say(ToWorker::Job(stored_job(3)));
        assert!(matches!(server.result(3).await, Outcome::Done(_)));
        world.stop();
    });
    let fetches: Vec<_> = world.journal().into_iter().filter(|line| line.contains("fetch")).collect();
    assert_eq!(fetches[..3], ["0 fetch 1 from the storage", "1 fetch 1", "3 fetch 2"]);
    assert!(fetches[3].ends_with("fetch 3 from the storage"), "{fetches:?}");
    assert_eq!(fetches.len(), 4);
    assert!(world.logged(LogLevel::Warning, "the storage gave nothing: the file did not arrive: no way"));
}

#[test]
fn a_transfer_from_the_storage_that_breaks_is_not_held_against_it() {
    let world = World::new();
    world.storage_breaks_at(Some(0.5));
    world.play(async |world| {
        let mut server = world.welcome().await;
        for number in [1, 2] {
            server.say(ToWorker::Job(stored_job(number)));
            assert!(matches!(server.result(number).await, Outcome::Done(_)));
            server.accept(number, AcceptedAs::Stored);
        }
        world.stop();
    });
    let fetches: Vec<_> = world.journal().into_iter().filter(|line| line.contains("fetch")).collect();
    assert_eq!(fetches, ["0 fetch 1 from the storage", "1 fetch 1", "3 fetch 2 from the storage", "4 fetch 2"]);
    assert!(!world.logged(LogLevel::Warning, "storage"));
}

#[test]
fn tells_of_both_ways_when_neither_works() {
    let world = World::new();
    world.storage_breaks_at(Some(0.0));
    world.fetch_breaks(100);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(stored_job(1)));
        let Outcome::Failed(failure) = server.result(1).await else { panic!("the file never arrived") };
        assert_eq!(failure.kind, FailureKind::Passing);
        let message = "the file did not arrive: reset by peer; the storage itself did not deliver it";
        assert_eq!(failure.message, message);
        world.stop();
    });
    let fetches = world.journal().iter().filter(|line| line.contains("fetch 1")).count();
    assert_eq!(fetches, 6, "the storage's is one of the tries");
}

#[test]
fn gives_up_a_fetch_that_stands_still() {
    let world = World::new();
    world.fetch_takes(100_000);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let Outcome::Failed(failure) = server.result(1).await else { panic!("the file never arrived") };
        assert_eq!(failure.kind, FailureKind::Passing);
        assert!(failure.message.contains("stopped arriving for 30 s"), "{}", failure.message);
        world.stop();
    });
}

#[test]
fn gives_up_a_fetch_that_trickles() {
    let world = World::new();
    world.fetch_trickles(20);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        let Outcome::Failed(failure) = server.result(1).await else { panic!("it would have taken half an hour") };
        assert_eq!(failure.kind, FailureKind::Passing);
        assert!(failure.message.contains("less than 8192 bytes a second"), "{}", failure.message);
        assert!(world.seconds() < 150.0);
        world.stop();
    });
}

#[test]
fn takes_no_file_larger_than_it_said() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        let mut large = job(1);
        large.audio.bytes = world::MAX_AUDIO_BYTES + 1;
        server.say(ToWorker::Job(large));
        let Outcome::Failed(failure) = server.result(1).await else { panic!("took it") };
        assert_eq!(failure.kind, FailureKind::Passing);
        world.stop();
    });
    assert_eq!(world.journal(), Vec::<String>::new());
}

#[test]
fn hands_back_a_job_for_which_it_has_no_room() {
    let world = World::new();
    world.analysis_takes(60);
    world.play(async |world| {
        let mut server = world.welcome().await;
        for number in [1, 2, 2, 3] {
            server.say(ToWorker::Job(job(number)));
        }
        assert_eq!(server.hear().await, ToServer::Release { job: lease(3) });
        world.stop();
    });
}

#[test]
fn begins_a_job_anew_that_comes_under_another_lease() {
    let world = World::new();
    world.analysis_takes(60);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        world.sleep_seconds(10).await;
        let mut again = job(1);
        again.job.lease = "another".into();
        server.say(ToWorker::Job(again.clone()));
        let said = server.until(|said| matches!(said, ToServer::Result { .. })).await;
        assert!(matches!(said, ToServer::Result { job, .. } if job == again.job));
        world.stop();
    });
    assert_eq!(
        world.journal(),
        ["0 fetch 1", "1 analyse 1", "10 dropped 1", "10 fetch 1", "11 analyse 1", "71 analysed 1"]
    );
}

#[test]
fn stop_hands_back_what_is_not_finished() {
    let world = World::new();
    world.analysis_takes(600);
    let exit = world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::Job(job(2)));
        world.sleep_seconds(3).await;
        world.stop();
        let rest = server.rest().await;
        assert_eq!(rest.last(), Some(&ToServer::Bye));
        assert!(!rest.iter().any(|said| matches!(said, ToServer::Release { .. })), "nobody is suspected for leaving");
        assert!(world.seconds() < 4.0);
    });
    assert_eq!(exit, Exit::Stopped);
    assert!(world.statuses().iter().any(|status| status.phase == Phase::Stopping));
    assert_eq!(world.journal().last().map(String::as_str), Some("3 dropped 1"));
}

#[test]
fn one_that_may_begin_nothing_more_finishes_the_track_in_analysis_and_leaves() {
    let world = World::new();
    world.analysis_takes(60);
    let exit = world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::Job(job(2)));
        world.sleep_seconds(20).await;
        world.begin_nothing();
        server.result(1).await;
        world.sleep_seconds(5).await;
        server.accept(1, AcceptedAs::Stored);
        // There is room again, but the job is not begun either.
        server.say(ToWorker::Job(job(3)));
        assert_eq!(server.rest().await.last(), Some(&ToServer::Bye));
    });
    assert_eq!(exit, Exit::Stopped);
    assert_eq!(world.journal(), ["0 fetch 1", "1 analyse 1", "1 fetch 2", "61 analysed 1"]);
    assert_eq!((world.last_status().done, world.seconds().round()), (1, 66.0));
}

#[test]
fn one_that_may_begin_nothing_and_has_nothing_in_analysis_leaves_at_once() {
    let world = World::new();
    world.fetch_takes(100);
    let exit = world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        world.sleep_seconds(10).await;
        world.begin_nothing();
        assert_eq!(server.rest().await.last(), Some(&ToServer::Bye));
    });
    assert_eq!(exit, Exit::Stopped);
    assert!(world.seconds() < 11.0);
}

#[test]
fn stop_is_heard_while_it_waits_to_reconnect() {
    let world = World::new();
    world.refuse_connections(true);
    let exit = world.play(async |world| {
        world.sleep_seconds(100).await;
        world.stop();
    });
    assert_eq!(exit, Exit::Stopped);
    assert!((100.0..101.0).contains(&world.seconds()));
}

#[test]
fn stop_does_not_wait_for_a_network_that_takes_nothing() {
    let world = World::new();
    let exit = world.play(async |world| {
        let server = world.welcome().await;
        server.take_nothing();
        world.stop();
        world.sleep_seconds(6).await;
    });
    assert_eq!(exit, Exit::Stopped);
    assert!(world.seconds() < 7.0);
}

#[test]
fn a_refused_worker_does_not_try_again() {
    for reason in [RefusalReason::UnknownCode, RefusalReason::SessionEnded, RefusalReason::ProtocolVersion] {
        let world = World::new();
        let exit = world.play(async |world| {
            let (server, _) = world.greeted().await;
            server.say(ToWorker::Refused { reason, message: "no".into(), get: None });
            world.sleep_seconds(1).await;
        });
        assert_eq!(exit, Exit::Refused { reason, message: "no".into() });
        assert_eq!(world.last_status().phase, Phase::Stopped { reason: Some("no".into()) });
    }
}

#[test]
fn a_worker_that_is_too_old_says_where_there_is_a_newer_one() {
    let world = World::new();
    let exit = world.play(async |world| {
        let (server, _) = world.greeted().await;
        let get = Some(ProgramRef { version: "9.0.0".into(), page: "/join".into() });
        server.say(ToWorker::Refused { reason: RefusalReason::ProtocolVersion, message: "too old".into(), get });
        world.sleep_seconds(1).await;
    });
    let Exit::Refused { message, .. } = exit else { panic!("{exit:?}") };
    assert!(message.starts_with("too old: http") && message.ends_with("/join"), "{message}");
}

#[test]
fn a_worker_that_is_refused_for_now_comes_back() {
    for reason in [RefusalReason::Full, RefusalReason::BadHello] {
        let world = World::new();
        let exit = world.play(async |world| {
            let (server, _) = world.greeted().await;
            server.say(ToWorker::Refused { reason, message: "no".into(), get: None });
            let _back = world.welcome().await;
            world.stop();
        });
        assert_eq!(exit, Exit::Stopped);
    }
}

#[test]
fn an_ended_session_ends_its_workers() {
    let world = World::new();
    world.analysis_takes(600);
    let exit = world.play(async |world| {
        let server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        world.sleep_seconds(5).await;
        server.say(ToWorker::Refused { reason: RefusalReason::SessionEnded, message: "over".into(), get: None });
    });
    assert_eq!(exit, Exit::Refused { reason: RefusalReason::SessionEnded, message: "over".into() });
}

#[test]
fn waits_longer_after_each_failure_and_begins_again_after_a_good_connection() {
    let world = World::new();
    world.random_is(1.0);
    world.refuse_connections(true);
    world.play(async |world| {
        world.sleep_seconds(1 + 2 + 4 + 8 + 16 + 32 + 60 + 30).await;
        world.refuse_connections(false);
        let mut server = world.welcome().await;
        let welcomed = world.seconds();
        server.until(|_| world.seconds() > welcomed + 61.0).await;
        drop(server);
        let lost = world.seconds();
        let _server = world.welcome().await;
        assert!((1.0..1.5).contains(&(world.seconds() - lost)));
        world.stop();
    });
    let mut waits = Vec::new();
    for status in world.statuses() {
        if let Phase::BackingOff { seconds, .. } = status.phase
            && waits.last() != Some(&seconds)
        {
            waits.push(seconds);
        }
    }
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 1.0]);
}

#[test]
fn a_welcome_alone_does_not_shorten_the_waits() {
    let world = World::new();
    world.random_is(1.0);
    world.play(async |world| {
        let mut lost: f64 = 0.0;
        for wait in [0.0, 1.0, 2.0, 4.0, 8.0, 16.0] {
            let server = world.welcome().await;
            assert!((wait..wait + 0.5).contains(&(world.seconds() - lost)), "{wait} s: {} s", world.seconds() - lost);
            lost = world.seconds();
            server.say_text("garbage");
        }
        world.stop();
    });
}

#[test]
fn comes_back_soon_after_a_goodbye() {
    let world = World::new();
    world.play(async |world| {
        let server = world.welcome().await;
        server.say(ToWorker::Goodbye);
        let _back = world.welcome().await;
        assert!(world.seconds() < 1.5);
        world.stop();
    });
}

#[test]
fn waits_for_its_receipts_when_the_coordinator_stops() {
    let world = World::new();
    world.analysis_takes(10);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.say(ToWorker::Job(job(2)));
        server.result(1).await;
        server.say(ToWorker::Goodbye);
        world.sleep_seconds(1).await;
        server.accept(1, AcceptedAs::Stored);
        server.rest().await;
        let (_server, holding) = world.greeted().await;
        assert_eq!(holding, [lease(2)], "what is not finished is shown to the next one");
        assert!(world.seconds() < 14.0, "{}", world.seconds());
        world.stop();
    });
    assert_eq!(world.last_status().done, 1);
}

#[test]
fn does_not_wait_for_receipts_for_ever_when_the_coordinator_stops() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        server.result(1).await;
        server.say(ToWorker::Goodbye);
        let (_server, holding) = world.greeted().await;
        assert_eq!(holding, [lease(1)]);
        assert!(world.seconds() < 7.0, "{}", world.seconds());
        world.stop();
    });
}

#[test]
fn garbage_and_later_messages_do_no_harm() {
    let world = World::new();
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say_text(r#"{"type":"of a later version"}"#);
        server.say(ToWorker::Ping);
        assert_eq!(server.hear().await, ToServer::Pong);
        server.say_text("<html>");
        let _back = world.welcome().await;
        world.stop();
    });
}

#[test]
fn shows_itself_at_most_four_times_a_second() {
    let world = World::new();
    world.analysis_takes(30);
    world.play(async |world| {
        let mut server = world.welcome().await;
        server.say(ToWorker::Job(job(1)));
        for _ in 0..100 {
            server.say(ToWorker::Ping);
            world.sleep(Duration::from_millis(30)).await;
        }
        server.result(1).await;
        server.accept(1, AcceptedAs::Stored);
        world.sleep_seconds(1).await;
        world.stop();
    });
    let moments = world.status_moments();
    for four in moments[..moments.len() - 2].windows(5) {
        assert!(four[4] - four[0] >= 0.99, "{four:?}");
    }
    let analysing = world.statuses().iter().filter(|status| !status.jobs.is_empty()).count();
    assert!(analysing >= 25, "the progress is shown: {analysing}");
}
