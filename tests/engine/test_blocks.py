"""Blocks, tables of blocks, and what is kept of them, without a model."""

from __future__ import annotations

import gc
import sys
import threading

import numpy as np
import pytest

from ryzanstein_llm.engine.blocks import SPARE_BLOCKS, Block, BlockPool, PoolFullError
from ryzanstein_llm.engine.kv_cache import KVCache
from ryzanstein_llm.engine.prefix import UNUSED_TAILS, PrefixIndex
from ryzanstein_llm.engine.store import Store
from ryzanstein_llm.errors import CacheBudgetError, ContextOverflowError
from ryzanstein_llm.interfaces.kv_layout import BLOCK_POSITIONS, KVLayout
from ryzanstein_llm.kernels import attention

LAYOUT = KVLayout("int8", 1, 1, 2)
CONTEXT = 10 * BLOCK_POSITIONS


def test_positions_of_a_block_are_those_of_the_kernels():
    assert attention.BLOCK_POSITIONS == BLOCK_POSITIONS


def make_pool(blocks: int) -> tuple[BlockPool, PrefixIndex]:
    pool = BlockPool(LAYOUT, blocks * LAYOUT.block_bytes)
    return pool, PrefixIndex(pool)


def filled(pool: BlockPool, index: PrefixIndex, tokens: list[int]) -> KVCache:
    """A cache of these tokens; each block is marked with the last token in it."""
    cache = KVCache(pool, CONTEXT)
    found = index.fill(cache, tokens)
    cache.reserve(len(tokens))
    for number, block in enumerate(cache.blocks):
        if (number + 1) * BLOCK_POSITIONS > found:
            block.memory[:] = tokens[min(len(tokens), (number + 1) * BLOCK_POSITIONS) - 1] % 251
    cache.length = len(tokens)
    return cache


def done(index: PrefixIndex, cache: KVCache, tokens: list[int]) -> None:
    index.keep(cache, tokens, tail=True)
    cache.free_from(0)


def ids(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 1000, count)]


def _interrupted(blocks: list[Block]) -> None:
    raise KeyboardInterrupt


class TestPool:
    def test_memory_is_taken_with_use_and_freed(self):
        pool, _ = make_pool(4)
        cache = KVCache(pool, CONTEXT)
        assert pool.nbytes == 0
        cache.reserve(1)
        cache.reserve(BLOCK_POSITIONS)
        assert pool.nbytes == LAYOUT.block_bytes
        cache.reserve(BLOCK_POSITIONS + 1)
        assert pool.nbytes == cache.nbytes == 2 * LAYOUT.block_bytes
        cache.free_from(0)
        assert pool.nbytes == 2 * LAYOUT.block_bytes  # spare ones
        other = KVCache(pool, CONTEXT)
        other.reserve(BLOCK_POSITIONS + 1)
        assert pool.nbytes == 2 * LAYOUT.block_bytes
        other.free_from(0)
        pool.clear()
        assert pool.nbytes == 0

    def test_only_a_few_blocks_are_spare(self):
        pool, _ = make_pool(20)
        cache = KVCache(pool, CONTEXT)
        cache.reserve(CONTEXT)
        cache.free_from(0)
        assert pool.nbytes == SPARE_BLOCKS * LAYOUT.block_bytes

    def test_the_budget_is_never_exceeded_and_a_failed_reservation_changes_nothing(self):
        pool, _ = make_pool(3)
        first, second = KVCache(pool, CONTEXT), KVCache(pool, CONTEXT)
        first.reserve(2 * BLOCK_POSITIONS)
        with pytest.raises(PoolFullError):
            second.reserve(2 * BLOCK_POSITIONS)
        assert second.nbytes == 0
        pool.clear()
        assert pool.nbytes == 2 * LAYOUT.block_bytes
        second.reserve(1)
        assert pool.nbytes == pool.budget

    def test_a_caller_that_cannot_wait_is_told_the_bytes(self):
        store = Store(LAYOUT, CONTEXT, LAYOUT.block_bytes)
        with pytest.raises(CacheBudgetError) as caught:
            store.reserve(store.new_cache(), BLOCK_POSITIONS + 1, ())
        assert caught.value.needed == 2 * LAYOUT.block_bytes
        assert caught.value.budget == LAYOUT.block_bytes

    def test_beyond_the_context(self):
        pool, _ = make_pool(20)
        with pytest.raises(ContextOverflowError):
            KVCache(pool, 100).reserve(101)

    def test_a_cache_that_is_dropped_gives_back_its_blocks(self):
        pool, _ = make_pool(1)
        KVCache(pool, CONTEXT).reserve(1)
        gc.collect()
        KVCache(pool, CONTEXT).reserve(1)  # would not fit otherwise

    def test_users_that_an_interrupt_lost_count_of_are_found_again(self):
        """Counted too high they would use up the budget for ever."""
        pool, index = make_pool(2)
        tokens = ids(512)
        done(index, filled(pool, index, tokens), tokens)
        for node in index._nodes:
            node.block.users += 1
        pool._blocks += 1
        index.clear()
        pool.clear()
        assert (pool.nbytes, len(index)) == (0, 0)
        done(index, filled(pool, index, tokens), tokens)
        for node in index._nodes:
            node.block.users += 1
        cache = KVCache(pool, CONTEXT)
        cache.reserve(512)
        assert pool.nbytes == 2 * LAYOUT.block_bytes
        assert len(index) == 0

    def test_what_an_interrupted_reservation_took_is_free_once_the_cache_is_emptied(
        self, monkeypatch
    ):
        pool, _ = make_pool(2)
        cache, other = KVCache(pool, CONTEXT), KVCache(pool, CONTEXT)
        with monkeypatch.context() as patch:
            patch.setattr(cache, "use", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                cache.reserve(2 * BLOCK_POSITIONS)
        cache.free_from(0)
        other.reserve(2 * BLOCK_POSITIONS)
        assert pool.nbytes == other.nbytes

    def test_tables_that_were_dropped_leave_nothing_however_much_budget_is_left(self):
        pool, _ = make_pool(1000)
        used = [KVCache(pool, CONTEXT) for _ in range(10)]
        for table in used:
            table.reserve(1)
        for _ in range(5000):
            KVCache(pool, CONTEXT)
        assert len(pool._tables) < 200
        assert pool.nbytes == 10 * LAYOUT.block_bytes

    def test_a_table_that_comes_while_blocks_are_counted_counts(self):
        """It may lie where one did that was dropped; its blocks must not look free."""
        pool, _ = make_pool(9)
        new: list[KVCache] = []

        class Watched(KVCache):
            @property
            def blocks(self) -> list[Block]:
                while len(new) < 100:  # until one has the place of what was dropped
                    new.append(KVCache(pool, CONTEXT))
                return self.own

            @blocks.setter
            def blocks(self, blocks: list[Block]) -> None:
                self.own = blocks

        watched, dropped = Watched(pool, CONTEXT), [KVCache(pool, CONTEXT) for _ in range(50)]
        places = set(map(id, dropped))
        del dropped
        assert pool.nbytes == watched.nbytes == 0
        same = next(cache for cache in new if id(cache) in places)
        same.reserve(1)
        assert pool.nbytes == LAYOUT.block_bytes


class TestPrefixes:
    def test_nothing_is_known_at_first(self):
        pool, index = make_pool(4)
        assert index.fill(KVCache(pool, CONTEXT), ids(600)) == 0

    @pytest.mark.parametrize("length", [1, 255, 256, 257, 512, 700])
    def test_the_same_tokens_are_found_whole(self, length):
        pool, index = make_pool(9)
        done(index, filled(pool, index, ids(length)), ids(length))
        cache = KVCache(pool, CONTEXT)
        assert index.fill(cache, ids(length)) == cache.length == length
        assert index.fill(KVCache(pool, CONTEXT), [*ids(length), 5]) >= length // 256 * 256

    @pytest.mark.parametrize("common", [1, 100, 256, 300, 511, 512, 600])
    def test_what_is_common_is_found_and_the_original_stays_as_it_was(self, common):
        pool, index = make_pool(9)
        first = ids(700)
        done(index, filled(pool, index, first), first)
        second = [*first[:common], *[token + 1000 for token in ids(50, seed=1)]]
        cache = filled(pool, index, second)
        assert cache.length == common + 50
        again = KVCache(pool, CONTEXT)
        assert index.fill(again, first) == 700
        marks = [int(block.memory[0]) for block in again.blocks]
        assert marks == [first[255] % 251, first[511] % 251, first[699] % 251]

    def test_full_blocks_are_shared_and_others_copied(self):
        pool, index = make_pool(9)
        first = ids(600)
        one = filled(pool, index, first)
        index.keep(one, first, tail=True)  # and goes on
        two = KVCache(pool, CONTEXT)
        assert index.fill(two, first) == 600
        assert two.blocks[:2] == one.blocks[:2]
        assert two.blocks[2] is not one.blocks[2]
        assert (two.blocks[2].memory == one.blocks[2].memory).all()
        assert pool.nbytes == 4 * LAYOUT.block_bytes

    def test_a_tail_that_nobody_needs_is_taken_over_without_a_copy(self):
        pool, index = make_pool(9)
        first = ids(100)
        done(index, filled(pool, index, first), first)
        cache = KVCache(pool, CONTEXT)
        assert index.fill(cache, [*first, 7]) == 100
        assert pool.nbytes == LAYOUT.block_bytes

    def test_a_block_that_others_rely_on_is_copied_before_it_is_written(self):
        pool, index = make_pool(9)
        first = ids(512)
        cache = filled(pool, index, first)
        index.keep(cache, first, tail=False)
        shared = cache.blocks[1]
        cache.free_from(300)
        cache.reserve(301)
        assert cache.blocks[1] is not shared
        assert (cache.blocks[1].memory == shared.memory).all()
        assert index.fill(KVCache(pool, CONTEXT), first) == 512

    def test_equal_blocks_that_were_computed_twice_become_one(self):
        pool, index = make_pool(9)
        tokens = ids(256)
        one, two = KVCache(pool, CONTEXT), KVCache(pool, CONTEXT)
        for cache in (one, two):
            cache.reserve(256)
            cache.length = 256
            index.keep(cache, tokens, tail=False)
        assert one.blocks == two.blocks
        pool.clear()
        assert pool.nbytes == LAYOUT.block_bytes

    def test_the_longest_unused_goes_first_and_ends_before_beginnings(self):
        pool, index = make_pool(4)
        old, new = ids(512), ids(512, seed=1)
        for tokens in (old, new):
            done(index, filled(pool, index, tokens), tokens)
        index.fill(KVCache(pool, CONTEXT), old[:200])  # used again: but only its beginning
        gc.collect()
        third = filled(pool, index, ids(256, seed=2))
        assert index.fill(KVCache(pool, CONTEXT), [*new, 1]) in (256, 512)
        assert index.fill(KVCache(pool, CONTEXT), old) == 256
        assert third.length == 256

    def test_what_is_in_use_is_never_evicted(self):
        pool, index = make_pool(2)
        tokens = ids(512)
        cache = filled(pool, index, tokens)
        index.keep(cache, tokens, tail=False)
        with pytest.raises(PoolFullError):
            KVCache(pool, CONTEXT).reserve(1)
        cache.free_from(256)
        KVCache(pool, CONTEXT).reserve(1)

    def test_only_so_many_ends_are_kept(self):
        pool, index = make_pool(100)
        for seed in range(UNUSED_TAILS + 20):
            tokens = [seed, *ids(20, seed)]
            done(index, filled(pool, index, tokens), tokens)
        pool.clear()
        assert pool.nbytes <= (UNUSED_TAILS + 1) * LAYOUT.block_bytes

    def test_an_end_can_be_forgotten(self):
        pool, index = make_pool(9)
        tokens = ids(300)
        done(index, filled(pool, index, tokens), tokens)
        assert index.held(tokens) == 2
        index.forget(tokens)
        assert index.held(tokens) == 1
        index.clear()
        pool.clear()
        assert pool.nbytes == 0

    def test_nobody_else_s_end_is_forgotten(self):
        """Of sequences that begin alike, as all do that have a beginning-of-text token."""
        pool, index = make_pool(9)
        first, second = [1, 2, *ids(50)], [1, 2, *ids(50, seed=1)]
        for tokens in (first, second):
            done(index, filled(pool, index, tokens), tokens)
        index.forget([*second, 7])  # the last token of a text is not in its cache
        cache = KVCache(pool, CONTEXT)
        assert index.fill(cache, first) == len(first)
        assert index.held(second) == 0

    def test_memory_can_be_asked_for_by_another_thread(self):
        pool, index = make_pool(2000)
        kept = [[seed, *ids(255, seed)] for seed in range(600)]
        for tokens in kept[:300]:
            done(index, filled(pool, index, tokens), tokens)
        asking, errors = threading.Event(), list[Exception]()

        def ask() -> None:
            while not asking.is_set():
                try:
                    assert pool.nbytes
                except Exception as error:
                    errors.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            for tokens in kept[300:]:
                done(index, filled(pool, index, tokens), tokens)
        finally:
            asking.set()
            thread.join()
            sys.setswitchinterval(interval)
        assert errors == []

    def test_random_use_leaks_nothing(self):
        """Sequences that share beginnings come, grow, are cut and go; the pool is too small."""
        pool, index = make_pool(12)
        rng = np.random.default_rng(0)
        alive: list[tuple[KVCache, list[int]]] = []
        for _ in range(2000):
            action = rng.random()
            if action < 0.4 or not alive:
                tokens = [*ids(rng.choice([10, 256, 400]), seed=int(rng.integers(3)))]
                tokens += ids(int(rng.integers(0, 300)), seed=int(rng.integers(4)))
                try:
                    alive.append((filled(pool, index, tokens), tokens))
                except PoolFullError:
                    gc.collect()
            elif action < 0.6:
                cache, tokens = alive[int(rng.integers(len(alive)))]
                cache.free_from(int(rng.integers(0, cache.length + 1)))
            else:
                cache, tokens = alive.pop(int(rng.integers(len(alive))))
                if action < 0.9:
                    index.keep(cache, tokens, tail=True)
                cache.free_from(0)
            assert pool.nbytes <= pool.budget
        for cache, _ in alive:
            cache.free_from(0)
        alive.clear()
        gc.collect()
        index.clear()
        pool.clear()
        assert (pool.nbytes, len(index)) == (0, 0)
