//! Random cases, and those that once found something.

use std::{cell::Cell, env, thread};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    World,
    steps::{Step, steps},
};

/// What this says instead is for CI, which has the time for millions.
const STEPS: usize = 20_000;
const VARIABLE: &str = "CURRANT_SIMULATION_STEPS";
/// Of a case, its end included: some more on the average.
const STEPS_OF_CASE: usize = 120;
const THREADS: usize = 2;

#[test]
fn nothing_is_lost_under_random_events() {
    let most = env::var(VARIABLE).map_or(STEPS, |steps| steps.parse().unwrap());
    let cases = u32::try_from(most / STEPS_OF_CASE / THREADS).unwrap();
    let taken: usize = thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(|| random(cases)));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{taken} steps");
    assert!(taken >= most, "{taken} steps");
}

/// So many cases; returns how many steps they took.
fn random(cases: u32) -> usize {
    let config = ProptestConfig { cases, ..ProptestConfig::with_source_file(file!()) };
    let taken = Cell::new(0);
    let ended = TestRunner::new(config).run(&steps(), |steps| {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
        taken.set(taken.get() + world.steps);
        Ok(())
    });
    ended.unwrap_or_else(|failure| panic!("{failure}"));
    taken.get()
}

#[test]
fn a_cancelled_job_that_is_retried_may_come_back_before_its_cancel_is_heard_of() {
    let claim = || Step::Claim { which: 0, commits: true, cancels: false };
    let mut world = World::new();
    for step in [
        Step::Subscribe { session: 1, queues: vec![0], credit: 2, keeps: false },
        claim(),
        claim(),
        Step::Insert { jobs: vec![(0, 0, 0)], commits: true, cancels: false },
        Step::Cancel { which: 0, tells: false },
        Step::Retry { which: 0 },
        claim(),
    ] {
        world.step(step);
    }
    let held: Vec<i32> = world.workers[&1].held.values().copied().collect();
    assert_eq!(held, [3], "to the worker that has the first attempt");
    world.finish();
}

#[test]
fn a_key_beyond_those_that_are_counted_is_not_claimed_again_and_again() {
    let mut world = World::new();
    for step in [
        Step::LimitKeys { queue: 0, concurrency: Some(2), ordered: false, tells: true },
        Step::Own { queue: 0, owned: true, elsewhere: false },
        Step::Subscribe { session: 1, queues: vec![0], credit: 5, keeps: false },
        Step::Insert { jobs: vec![(0, 0, 1), (0, 0, 2), (0, 0, 3)], commits: true, cancels: false },
    ] {
        world.step(step);
    }
    for _ in 0..10 {
        world.step(Step::Claim { which: 0, commits: true, cancels: false });
    }
    assert!(world.claims.is_empty(), "{:?}", world.claims);
    assert_eq!(world.workers[&1].held.len(), 2);
    world.finish();
}
