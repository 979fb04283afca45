/* test_heap_life.c -- heaps without a thread: abandoned, adopted, inherited, borrowed, lost. */
#include "unit/heap.inc"
#include "unit/said.inc"

static void take(struct heap *heap, unsigned class, unsigned count) {
    check(heap_enter(heap));
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = heap_fill(heap, class);
        check(blocks[i] != NULL);
    }
    heap_leave(heap);
}
static uint64_t runs_from_pool(struct heap *heap) {
    uint64_t sum = 0;
    for (int i = 1; i < 4; i++)
        sum += atomic_get(&heap->stats.slots_stage[i], relaxed);
    return sum;
}

Test(heap_life, an_abandoned_heap_keeps_a_few_small_blocks_and_the_next_thread_adopts_it) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    unsigned large = sizeclass_of(KIB(4));
    take(heap, large, 3);
    take(heap, 9, 10);
    unsigned before = held(&heap->magazines[9]);
    check(before > 0 && held(&heap->magazines[large]) > 0);
    heap_abandon(heap);
    check(atomic_get(&heap->state, relaxed) == HEAP_ORPHAN && heap_orphans() == 1);
    check(held(&heap->magazines[9]) > 0 && held(&heap->magazines[9]) <= heap_first_cap(9));
    check(held(&heap->magazines[large]) == 0, "larger ones are home");
    heap_drain_orphan(heap);
    check(held(&heap->magazines[9]) == 0 && heap_orphans() == 1, "nobody came for them");
    struct slot *slot = slot_of_block(9, blocks[0]);
    check(slot_free(slot) == slot->capacity - 10u, "its cached blocks are home");
    check(heap_acquire() == heap && heap_orphans() == 0 && heap_count() == 1);
    check(atomic_get(&heap->state, relaxed) == HEAP_OWNED);
    check(atomic_get(&heap->stats.adoptions, relaxed) == 1);
    heap_drain_orphan(heap); /* which it is not */
    check(atomic_get(&heap->state, relaxed) == HEAP_OWNED && heap_orphans() == 0);
    check(heap_acquire() != heap && heap_count() == 2, "only once");
}

Test(heap_life, an_abandoned_heap_keeps_nothing_when_idle_caches_are_emptied_at_once) {
    start_arena(MIB(64));
    options.drain_interval = 0;
    struct heap *heap = new_heap();
    take(heap, 9, 10);
    heap_abandon(heap);
    check(held(&heap->magazines[9]) == 0);
}

Test(heap_life, a_heap_that_runs_dry_inherits_an_orphans_runs_before_it_asks_the_pool) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct heap *orphan = new_heap();
    take(orphan, 9, 10);
    struct slot *slot = slot_of_block(9, blocks[0]);
    heap_abandon(orphan);
    check(atomic_get(&slot->owner, relaxed) == orphan->id && orphan->bins[9].head != 0);
    uint64_t before = runs_from_pool(heap);
    check(heap_enter(heap));
    void *block = heap_fill(heap, 9);
    check(slot_of_block(9, block) == slot && atomic_get(&slot->owner, relaxed) == heap->id);
    check(orphan->bins[9].head == 0 && runs_from_pool(heap) == before);
    check(heap_send_home(heap, 9, blocks, 10) == 0);
    check(atomic_get(&heap->stats.remote_frees, relaxed) == 0, "they are its own now");
    heap_leave(heap);
}

Test(heap_life, packets_in_an_orphans_inbox_are_inherited_too) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct heap *orphan = new_heap();
    check(heap_enter(orphan));
    unsigned run = 0; /* all of a run: nothing of it is in the orphan's list */
    do
        blocks[run++] = heap_take_one(orphan, 40);
    while (orphan->bins[40].head != 0);
    heap_leave(orphan);
    heap_abandon(orphan);
    check(heap_enter(heap));
    check(heap_send_home(heap, 40, blocks, run / 2) == 0);
    check(inbox(orphan, 40) != NULL);
    uint64_t before = runs_from_pool(heap);
    void *block = heap_take_one(heap, 40);
    heap_leave(heap);
    check(slot_of_block(40, block) == slot_of_block(40, blocks[0]));
    check(runs_from_pool(heap) == before && inbox(orphan, 40) == NULL);
    check(slot_free(slot_of_block(40, block)) == run / 2 - 1);
}

Test(heap_life, the_holder_of_a_lock_can_not_enter_again_and_borrows_another_heap) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    check(heap_enter(heap));
    check(!heap_enter(heap) && !heap_try_enter(heap));
    struct heap *other = heap_borrow();
    check(other != NULL && other != heap && !heap_try_enter(other), "entered already");
    void *block = heap_take_one(other, 9);
    check(block != NULL);
    heap_leave(other);
    check(heap_borrow() == other, "the same again: it was left");
    heap_leave(other);
    heap_free_borrowed(9, block);
    check(slot_free(slot_of_block(9, block)) == slot_of_block(9, block)->capacity);
    heap_leave(heap);
    check(heap_try_enter(heap));
    heap_leave(heap);
    check(heap_acquire() == other, "a borrowed heap that was made is an orphan");
}

Test(heap_life, a_block_freed_with_a_borrowed_heap_reaches_its_owner) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    take(heap, 9, 2);
    check(heap_enter(heap));
    heap_free_borrowed(9, blocks[0]);
    check(atomic_get(&heap->inbox[9], relaxed) != NULL);
    unsigned before = slot_free(slot_of_block(9, blocks[0]));
    heap_collect(heap);
    heap_leave(heap);
    check(slot_free(slot_of_block(9, blocks[0])) == before + 1);
    heap_free_borrowed(9, blocks[1]);
    check(slot_free(slot_of_block(9, blocks[1])) == before + 2, "with the owner's own lock");
}

/* As if another thread had it; tokens are addresses, so that these are nobody's. */
static void make_others(struct heap *heap, unsigned thread, bool inside) {
    atomic_put(&heap->owner, os_thread_token() + thread, relaxed);
    atomic_put(&heap->lock, inside ? os_thread_token() + thread : 0, relaxed);
}

Test(heap_life, a_block_freed_without_a_heap_needs_no_packet_where_its_owner_is_idle) {
    start_arena(MIB(64));
    struct heap *first = new_heap(); /* which would be borrowed */
    struct heap *heap = new_heap();
    take(heap, 9, 1);
    make_others(heap, 1, false);
    unsigned before = slot_free(slot_of_block(9, blocks[0]));
    heap_free_borrowed(9, blocks[0]);
    check(slot_free(slot_of_block(9, blocks[0])) == before + 1, "home");
    check(atomic_get(&first->stats.remote_packets, relaxed) == 0);
    check(atomic_get(&heap->inbox[9], relaxed) == NULL && atomic_get(&heap->lock, relaxed) == 0);
}

/* Not for ever: a signal handler's own thread may be what the owner's handler waits for. */
Test(heap_life, a_block_freed_without_a_heap_nor_memory_waits_a_moment_for_its_owner) {
    start_arena(MIB(64));
    struct heap *mine = new_heap();
    struct heap *heap = new_heap();
    take(heap, 9, 2);
    make_others(heap, 1, true);
    check(heap_enter(mine), "what the handler interrupted");
    while (arena_take_metadata(64) != NULL)
        continue;
    unsigned before = slot_free(slot_of_block(9, blocks[0]));
    uint32_t begin = os_clock_ms();
    heap_free_borrowed(9, blocks[0]);
    check(os_clock_ms() - begin >= 40, "872 naps of 50 us");
    check(slot_free(slot_of_block(9, blocks[0])) == before && heap_count() == 2, "it is lost");
    check(atomic_get(&heap->lock, relaxed) == os_thread_token() + 1, "and the lock not touched");
    make_others(heap, 1, false);
    heap_free_borrowed(9, blocks[1]);
    check(slot_free(slot_of_block(9, blocks[1])) == before + 1);
}

Test(heap_life, after_a_fork_whole_heaps_are_orphans_and_those_inside_are_lost) {
    start_arena(MIB(64));
    struct heap *mine = new_heap();
    struct heap *whole = new_heap();
    struct heap *inside = new_heap();
    take(whole, 9, 1);
    make_others(whole, 1, false);
    make_others(inside, 2, true);
    heap_after_fork(os_thread_token());
    check(atomic_get(&mine->state, relaxed) == HEAP_OWNED);
    check(atomic_get(&whole->state, relaxed) == HEAP_ORPHAN && heap_orphans() == 1);
    check(atomic_get(&inside->state, relaxed) == HEAP_LOST);
    check(slot_free(slot_of_block(9, blocks[0])) == slot_of_block(9, blocks[0])->capacity - 1u);
    check(heap_enter(mine) && heap_enter(whole) && !heap_enter(inside));
    struct heap *borrowed = heap_borrow();
    check(borrowed != NULL && borrowed != inside, "a lost heap is not lent");
    heap_leave(borrowed);
    heap_leave(whole);
    heap_leave(mine);
    check(heap_acquire() != inside && heap_acquire() != inside && heap_acquire() != inside);
}

Test(heap_life, an_orphan_that_a_thread_was_inside_is_lost_and_no_orphan_any_more) {
    start_arena(MIB(64));
    (void)new_heap();
    struct heap *orphan = new_heap();
    heap_abandon(orphan);
    make_others(orphan, 3, true);
    heap_after_fork(os_thread_token());
    check(atomic_get(&orphan->state, relaxed) == HEAP_LOST && heap_orphans() == 0);
    check(heap_acquire() != orphan);
}

static void enter_in_a_child(void *heap) {
    (void)alarm(20);
    _exit(heap_enter(heap) ? 1 : atomic_get(&((struct heap *)heap)->state, relaxed) != HEAP_LOST);
}

/* As handlers of pthread_atfork find it that run in the child before ours. */
Test(heap_life, who_forks_waits_in_the_child_for_no_thread_before_the_child_is_known_as_one) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    atomic_put(&heap->lock, os_thread_token() + 64, relaxed); /* some other thread's */
    heap_set_forking(true);
    check(status_of(enter_in_a_child, heap) == 0);
    heap_set_forking(false);
}

Test(heap_life, the_forking_threads_own_heap_is_lost_only_when_another_thread_was_inside) {
    start_arena(MIB(64));
    struct heap *mine = new_heap();
    heap_after_fork(os_thread_token());
    check(atomic_get(&mine->state, relaxed) == HEAP_OWNED && heap_enter(mine));
    heap_after_fork(os_thread_token()); /* forked from a signal handler */
    check(atomic_get(&mine->state, relaxed) == HEAP_OWNED && !heap_try_enter(mine));
    atomic_put(&mine->lock, os_thread_token() + 1, relaxed);
    heap_after_fork(os_thread_token());
    check(atomic_get(&mine->state, relaxed) == HEAP_LOST && heap_acquire() != mine);
}

Test(heap_life, a_forking_thread_keeps_the_heap_that_it_adopted) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    heap_abandon(heap);
    check(heap_acquire() == heap);
    heap_after_fork(os_thread_token());
    check(atomic_get(&heap->state, relaxed) == HEAP_OWNED && heap_orphans() == 0);
}

Test(heap_life, blocks_of_a_lost_heap_can_still_be_freed) {
    start_arena(MIB(64));
    struct heap *mine = new_heap();
    struct heap *lost = new_heap();
    take(lost, 9, 200);
    make_others(lost, 1, true);
    heap_after_fork(os_thread_token());
    check(heap_enter(mine) && heap_send_home(mine, 9, blocks, 200) == 0);
    heap_leave(mine);
    check(atomic_get(&mine->stats.remote_frees, relaxed) == 200);
}

Test(heap_life, inside_its_own_slow_path_a_thread_has_no_heap_for_its_signal_handlers) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    heap_mine = heap;
    check(heap_enter_own(heap) && heap_mine == &heap_gone && !heap_enter_own(heap));
    check(heap_mine == &heap_gone);
    heap_leave_own(heap);
    check(heap_mine == heap && heap_try_enter(heap));
    heap_leave(heap);
}

Test(heap_life, inside_anothers_heap_a_thread_has_none_for_its_signal_handlers) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    heap_mine = heap;
    struct heap *aside = heap_step_aside();
    check(aside == heap && heap_mine == &heap_gone);
    check(heap_step_aside() == &heap_gone, "a handler steps aside, too");
    heap_step_back(&heap_gone);
    check(heap_mine == &heap_gone);
    heap_step_back(aside);
    check(heap_mine == heap);
}

Test(heap_life, a_heap_that_was_lost_while_its_thread_stood_aside_is_nobodys) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    heap_mine = heap;
    struct heap *aside = heap_step_aside();
    make_others(heap, 1, true);
    heap_after_fork(os_thread_token()); /* in a handler's child */
    heap_step_back(aside);
    check(heap_mine == &heap_none && atomic_get(&heap->state, relaxed) == HEAP_LOST);
    heap_abandon(heap);
    check(atomic_get(&heap->state, relaxed) == HEAP_LOST && heap_orphans() == 0, "no orphan");
    check(heap_acquire() != heap);
}

Test(heap_life, without_memory_for_a_heap_acquire_gives_NULL_and_an_orphan_helps) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    while (arena_take_metadata(64) != NULL) {
    }
    check(heap_acquire() == NULL && heap_count() == 1);
    check(heap_enter(heap) && heap_borrow() == NULL);
    heap_leave(heap);
    heap_abandon(heap);
    check(heap_acquire() == heap);
}

Test(heap_life, without_any_heap_nor_memory_for_one_none_is_lent) {
    start_arena(MIB(64));
    while (arena_take_metadata(64) != NULL) {
    }
    check(heap_borrow() == NULL && heap_count() == 0);
}

/* ---- threads ---- */

static ATOMIC(void *) mailbox[256];

static size_t exchange(unsigned number, void *shared) {
    (void)shared;
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (unsigned life = 0; life < 4; life++) {
        struct heap *heap = heap_acquire();
        if (heap == NULL)
            return wrong + 1;
        for (size_t step = unit_repeats(20000, 1000); step > 0; step--) {
            if (!heap_enter(heap))
                return wrong + 1;
            uint64_t *block = heap_fill(heap, 9);
            heap_leave(heap);
            wrong += block == NULL;
            if (block == NULL)
                continue;
            for (int i = 0; i < 18; i++) /* 144 bytes: a shared block would be torn */
                block[i] = step << 8 | number;
            block = atomic_swap(&mailbox[unit_below(&state, 256)], block, acq_rel);
            if (block == NULL)
                continue;
            for (int i = 1; i < 18; i++)
                wrong += block[i] != block[0];
            if (!heap_enter(heap))
                return wrong + 1;
            heap_flush(heap, 9, block);
            heap_leave(heap);
        }
        heap_abandon(heap);
    }
    return wrong;
}

Test(heap_life, four_threads_that_exchange_blocks_and_change_heaps_lose_none) {
    start_arena(MIB(64));
    check(unit_run_threads(4, exchange, NULL) == 0, "a block had two users");
    struct heap *heap = new_heap();
    check(heap_enter(heap));
    for (int i = 0; i < 256; i++) {
        void *block = atomic_get(&mailbox[i], relaxed);
        if (block != NULL)
            check(heap_send_home(heap, 9, &block, 1) == 0);
    }
    heap_leave(heap);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < heap_count(); i++) {
            check(heap_enter(heap_by_number(i)));
            heap_drain(heap_by_number(i), DRAIN_ALL);
            heap_leave(heap_by_number(i));
        }
    for (uint32_t s = 1; s < superslab_top() * SUPERSLAB_SLOTS; s++)
        if (arena_class_of_slot(s) == 9 && slot_state(s) != SLOT_UNUSED)
            check(slot_state(s) == SLOT_EMPTY, "slot %u is %s with %u of %u free", s,
                  slot_state_name[slot_state(s)], slot_free(slot_at(s)), slot_at(s)->capacity);
}
