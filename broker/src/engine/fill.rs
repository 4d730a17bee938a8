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
    /// How many it is given, see `fill`.
    pub(super) share: usize,
}

/// Jobs that run for less than this together may go to one session while others are idle: a message
/// costs about as much.
pub(super) const PACK_WORK: Duration = Duration::from_millis(1);
/// Enough for a message's cost to vanish.
const PACK_MAX: usize = 64;

/// How many jobs that run for so long may go to one session while others are idle. Where jobs take their
/// time it is one.
pub(super) fn pack(run_time: Duration) -> usize {
    let nanos = run_time.as_nanos().max(1);
    usize::try_from(PACK_WORK.as_nanos() / nanos).unwrap_or(PACK_MAX).clamp(1, PACK_MAX)
}

/// Shares `jobs` among the rooms so that the held counts come out as even as they can (water
/// filling); what is left over of an even share goes to the first rooms.
pub(super) fn fill(rooms: &mut [Room], jobs: usize) {
    let total: usize = rooms.iter().map(|room| room.free).sum();
    if jobs >= total {
        for room in rooms {
            room.share = room.free;
        }
        return;
    }
    let at = |room: &Room, level: usize| level.saturating_sub(room.held).min(room.free);
    let given_at = |level: usize| -> usize { rooms.iter().map(|room| at(room, level)).sum() };
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
    let mut left = jobs - given_at(low);
    for room in rooms {
        room.share = at(room, low);
        // Only those that stand at the level: others hold more already.
        if left > 0 && room.held + room.share == low && room.share < room.free {
            room.share += 1;
            left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rooms(held_free: &[(usize, usize)]) -> Vec<Room> {
        held_free
            .iter()
            .enumerate()
            .map(|(index, &(held, free))| Room { index, held, free, share: 0 })
            .collect()
    }

    fn shares(rooms: &[Room], jobs: usize) -> Vec<usize> {
        let mut rooms = rooms.to_vec();
        fill(&mut rooms, jobs);
        rooms.iter().map(|room| room.share).collect()
    }

    #[test]
    fn the_idle_come_first() {
        assert_eq!(shares(&rooms(&[(9, 1), (0, 10)]), 2), [0, 2]);
        assert_eq!(shares(&rooms(&[(0, 10), (0, 10), (4, 6)]), 9), [5, 4, 0]);
    }

    #[test]
    fn jobs_that_take_no_time_are_packed() {
        let packs = [10_000, 1000, 20, 1, 0].map(|micros| pack(Duration::from_micros(micros)));
        assert_eq!(packs, [1, 1, 50, PACK_MAX, PACK_MAX]);
    }

    proptest! {
        #[test]
        fn gives_all_it_can_and_evenly(
            held_free in prop::collection::vec((0usize..20, 0usize..20), 1..12),
            jobs in 0usize..150,
        ) {
            let rooms = rooms(&held_free);
            let shares = shares(&rooms, jobs);
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
