use std::time::Duration;

/// What a session can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Whose room it is.
    pub(super) index: usize,
    /// Jobs that it holds.
    pub(super) held: usize,
    /// How many more it may be given.
    pub(super) free: usize,
    /// The mean run time of its handlers, as far as it has said.
    pub(super) run_time: Option<Duration>,
}

/// Jobs that run for less than this together may go to one session while others are idle: a message
/// costs about as much.
const PACK_WORK: Duration = Duration::from_millis(1);
/// Enough for a message's cost to vanish.
const PACK_MAX: usize = 64;

/// Leaves only as many rooms as the jobs need when each takes a pack of them: those that hold the
/// least, in turns. Where jobs take their time a pack is one job, and all rooms stay.
pub(super) fn choose(rooms: &mut Vec<Room>, jobs: usize, turn: usize) {
    let pack = pack(rooms);
    if pack == 1 || jobs >= rooms.len() * pack {
        return;
    }
    let first = turn % rooms.len();
    rooms.rotate_left(first);
    rooms.sort_by_key(|room| room.held);
    let mut left = jobs;
    rooms.retain(|room| {
        let needed = left > 0;
        left = left.saturating_sub(room.free.min(pack));
        needed
    });
}

/// How many jobs make a pack: by the mean of all, so that a few who were held up don't count for much.
fn pack(rooms: &[Room]) -> usize {
    let run_time = |room: &Room| room.run_time.unwrap_or(PACK_WORK).min(PACK_WORK);
    let total: Duration = rooms.iter().map(run_time).sum();
    let nanos = (total.as_nanos() / (rooms.len() as u128).max(1)).max(1);
    usize::try_from(PACK_WORK.as_nanos() / nanos).unwrap_or(PACK_MAX).clamp(1, PACK_MAX)
}

/// Shares `jobs` among the rooms so that the held counts come out as even as they can (water
/// filling). The answer has an entry a room, in the same order; what is left over of an even share
/// goes to the rooms from `turn` on.
pub(super) fn fill(rooms: &[Room], jobs: usize, turn: usize) -> Vec<usize> {
    let total: usize = rooms.iter().map(|room| room.free).sum();
    if jobs >= total {
        return rooms.iter().map(|room| room.free).collect();
    }
    let given_at = |level: usize| -> usize {
        rooms.iter().map(|room| level.saturating_sub(room.held).min(room.free)).sum()
    };
    // The highest level that doesn't need more jobs than there are.
    let (mut low, mut high) =
        (0, rooms.iter().map(|room| room.held + room.free).max().unwrap_or(0));
    while low < high {
        let middle = (low + high).div_ceil(2);
        if given_at(middle) <= jobs {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let mut shares: Vec<usize> =
        rooms.iter().map(|room| low.saturating_sub(room.held).min(room.free)).collect();
    let mut left = jobs - shares.iter().sum::<usize>();
    for offset in 0..rooms.len() {
        if left == 0 {
            break;
        }
        let at = (turn + offset) % rooms.len();
        // Only those that stand at the level: others hold more already.
        if rooms[at].held + shares[at] == low && shares[at] < rooms[at].free {
            shares[at] += 1;
            left -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rooms(held_free: &[(usize, usize)]) -> Vec<Room> {
        held_free
            .iter()
            .enumerate()
            .map(|(index, &(held, free))| Room { index, held, free, run_time: None })
            .collect()
    }

    #[test]
    fn the_idle_come_first() {
        assert_eq!(fill(&rooms(&[(9, 1), (0, 10)]), 2, 0), [0, 2]);
        assert_eq!(fill(&rooms(&[(0, 10), (0, 10), (4, 6)]), 9, 0), [5, 4, 0]);
    }

    #[test]
    fn the_odd_job_goes_round() {
        let idle = rooms(&[(0, 1), (0, 1), (0, 1)]);
        assert_eq!(fill(&idle, 1, 0), [1, 0, 0]);
        assert_eq!(fill(&idle, 1, 1), [0, 1, 0]);
        assert_eq!(fill(&idle, 1, 5), [0, 0, 1]);
    }

    #[test]
    fn jobs_that_take_no_time_go_to_a_few_in_turns() {
        let idle = |micros| -> Vec<Room> {
            let run_time = Some(Duration::from_micros(micros));
            (0..10).map(|index| Room { index, held: 0, free: 100, run_time }).collect()
        };
        let chosen = |micros, turn| {
            let mut rooms = idle(micros);
            choose(&mut rooms, 100, turn);
            let mut indices: Vec<usize> = rooms.iter().map(|room| room.index).collect();
            indices.sort_unstable();
            indices
        };
        assert_eq!(chosen(10_000, 3).len(), 10);
        assert_eq!(chosen(100, 3).len(), 10);
        assert_eq!(chosen(20, 3), [3, 4]);
        assert_eq!(chosen(20, 9), [0, 9]);
        assert_eq!(chosen(0, 3), [3, 4], "a message has a limit too");
        let mut rooms = idle(20);
        rooms[4].held = 5;
        rooms[5].free = 10;
        choose(&mut rooms, 100, 3);
        let indices: Vec<usize> = rooms.iter().map(|room| room.index).collect();
        assert_eq!(indices, [3, 5, 6], "room for all, the idle first");
    }

    proptest! {
        #[test]
        fn gives_all_it_can_and_evenly(
            held_free in prop::collection::vec((0usize..20, 0usize..20), 1..12),
            jobs in 0usize..150, turn in 0usize..50,
        ) {
            let rooms = rooms(&held_free);
            let shares = fill(&rooms, jobs, turn);
            let total: usize = held_free.iter().map(|room| room.1).sum();
            prop_assert_eq!(shares.iter().sum::<usize>(), jobs.min(total));
            for (room, share) in rooms.iter().zip(&shares) {
                prop_assert!(*share <= room.free);
                // Nobody was given a job who then holds two more than one who has room.
                for (other, other_share) in rooms.iter().zip(&shares) {
                    if *share > 0 && *other_share < other.free {
                        prop_assert!(room.held + share <= other.held + other_share + 1);
                    }
                }
            }
        }
    }
}
