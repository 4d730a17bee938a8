//! How often this process has allocated memory, in builds that count it (`count-allocations`).

#[cfg(not(feature = "count-allocations"))]
mod allocator {
    #[global_allocator]
    static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

    pub(super) fn count() -> Option<u64> {
        None
    }
}

#[cfg(feature = "count-allocations")]
mod allocator {
    use mimalloc::MiMalloc;
    use stats_alloc::StatsAlloc;

    #[global_allocator]
    static ALLOCATOR: StatsAlloc<MiMalloc> = StatsAlloc::new(MiMalloc);

    pub(super) fn count() -> Option<u64> {
        let stats = ALLOCATOR.stats();
        Some((stats.allocations + stats.reallocations) as u64)
    }
}

/// Allocations so far, growth of one counted too. None: this build doesn't count.
pub(crate) fn count() -> Option<u64> {
    allocator::count()
}
