/* cxx_workload.cc -- ordinary C++ on top of the allocator: containers, strings, exceptions, threads
 * and thread_local objects whose destructors allocate and free; results are checked against
 * arithmetic.
 */
#include "check.inc"

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

static void vectors_of_strings_sort_and_keep_their_text(void) {
    std::vector<std::string> words;
    for (unsigned i = 0; i < 60000; i++)
        words.push_back(std::string(i % 70, 'a') + std::to_string(i * 2654435761u));
    size_t letters = 0, sorted_letters = 0;
    for (const std::string &word : words)
        letters += word.size();
    std::sort(words.begin(), words.end());
    EXPECT(std::is_sorted(words.begin(), words.end()), "expected the words in order");
    for (const std::string &word : words)
        sorted_letters += word.size();
    EXPECT(letters == sorted_letters, "expected %zu letters, found %zu", letters, sorted_letters);
}

static void maps_keep_every_entry_through_insertions_and_erasures(void) {
    std::map<unsigned, std::vector<unsigned>> tree;
    std::unordered_map<std::string, unsigned> table;
    for (unsigned i = 0; i < 40000; i++) {
        tree[i * 7919u % 40009u].assign(i % 90, i);
        table["key" + std::to_string(i)] = i;
    }
    for (unsigned i = 0; i < 40000; i += 2) {
        tree.erase(i * 7919u % 40009u);
        table.erase("key" + std::to_string(i));
    }
    EXPECT(tree.size() == 20000, "expected 20000 entries, found %zu", tree.size());
    EXPECT(table.size() == 20000, "expected 20000 entries, found %zu", table.size());
    for (unsigned i = 1; i < 40000; i += 2) {
        const std::vector<unsigned> &entry = tree[i * 7919u % 40009u];
        EXPECT(entry.size() == i % 90 && (entry.empty() || entry.back() == i), "entry %u changed",
               i);
        EXPECT(table["key" + std::to_string(i)] == i, "table entry %u changed", i);
    }
}

static void threads_build_and_hand_over_containers(void) {
    std::vector<std::thread> threads;
    std::vector<std::unique_ptr<std::map<int, std::string>>> made(8);
    for (size_t t = 0; t < made.size(); t++)
        threads.emplace_back([t, &made] {
            made[t].reset(new std::map<int, std::string>);
            for (int i = 0; i < 8000; i++)
                (*made[t])[i] =
                    std::string(static_cast<size_t>(i % 50), static_cast<char>('a' + t));
        });
    for (std::thread &thread : threads)
        thread.join();
    for (size_t t = 0; t < made.size(); t++) {
        size_t letters = 0;
        for (const auto &entry : *made[t])
            letters += static_cast<size_t>(
                std::count(entry.second.begin(), entry.second.end(), static_cast<char>('a' + t)));
        EXPECT(letters == 8000 / 50 * (49 * 50 / 2), "thread %zu: expected %d letters, found %zu",
               t, 8000 / 50 * (49 * 50 / 2), letters);
        std::thread([t, &made] { made[t].reset(); }).join();
    }
}

static void exceptions_thrown_across_threads_keep_their_text(void) {
    for (int i = 0; i < 200; i++) {
        std::future<int> future = std::async(std::launch::async, [i]() -> int {
            std::ostringstream text;
            text << "failure number " << i << std::string(static_cast<size_t>(i), '.');
            throw std::runtime_error(text.str());
        });
        std::string found;
        try {
            future.get();
        } catch (const std::exception &error) {
            found = error.what();
        }
        EXPECT(found ==
                   "failure number " + std::to_string(i) + std::string(static_cast<size_t>(i), '.'),
               "exception %d: found \"%s\"", i, found.c_str());
    }
}

static int destroyed;

struct noisy {
    std::vector<std::string> words;
    noisy() {
        for (int i = 0; i < 100; i++)
            words.push_back("a word that is too long for the small buffer " + std::to_string(i));
    }
    ~noisy() {
        std::map<int, std::string> last;
        for (size_t i = 0; i < words.size(); i++)
            last[static_cast<int>(i)] = words[i] + " at the end";
        if (last.size() == 100 &&
            last[99] == "a word that is too long for the small buffer 99 at the end")
            __atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
    }
};

static thread_local noisy per_thread;

static void thread_local_destructors_allocate_and_free(void) {
    destroyed = 0;
    for (int round = 0; round < 50; round++) {
        std::vector<std::thread> threads;
        for (int t = 0; t < 8; t++)
            threads.emplace_back([] { per_thread.words[0] += "!"; });
        for (std::thread &thread : threads)
            thread.join();
    }
    EXPECT(destroyed == 400, "expected 400 intact objects destroyed, found %d", destroyed);
}

static void bad_alloc_unwinds_and_the_program_goes_on(void) {
    int caught = 0;
    for (int i = 0; i < 100; i++) {
        std::vector<std::string> held(100, std::string(200, 'h'));
        try {
            std::vector<char> huge;
            huge.reserve(hide_size(static_cast<size_t>(PTRDIFF_MAX) / 2 + static_cast<size_t>(i)));
        } catch (const std::bad_alloc &) {
            caught++;
        } catch (const std::length_error &) {
        }
        EXPECT(held[99] == std::string(200, 'h'), "round %d: a string changed", i);
    }
    EXPECT(caught == 100, "expected std::bad_alloc 100 times, found %d", caught);
}

/* Constructed before main, destroyed after it. */
static const noisy global;

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(vectors_of_strings_sort_and_keep_their_text, 0),
    CHECK(maps_keep_every_entry_through_insertions_and_erasures, 0),
    CHECK(threads_build_and_hand_over_containers, 0),
    CHECK(exceptions_thrown_across_threads_keep_their_text, 0),
    CHECK(thread_local_destructors_allocate_and_free, 0),
    CHECK(bad_alloc_unwinds_and_the_program_goes_on, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
