#!/usr/bin/env bash
# fork_threads.sh -- a program whose threads fork while the others allocate: every child does its work and exits.
. "$(dirname "$0")/common.inc"
need g++
cat >program.cc <<'END'
#include <atomic>
#include <cstdio>
#include <map>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>
static std::atomic<bool> stop{false};
static std::atomic<int> good{0}, bad{0};
static int work(int n) {
    std::map<int, std::string> m;
    for (int i = 0; i < 3000; i++)
        m[i * 7919 % 3001] = std::string(i % 200, char('a' + n % 26));
    size_t sum = 0;
    for (auto &e : m)
        sum += e.second.size();
    return sum == 298500 ? 0 : 1;
}
int main() {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([t] { while (!stop) { if (work(t)) bad++; usleep(100); } });
    std::vector<std::thread> forkers;
    for (int t = 0; t < 4; t++)
        forkers.emplace_back([t] {
            for (int i = 0; i < 30; i++) {
                pid_t child = fork();
                if (child == 0) {
                    alarm(30);
                    int failed = work(t + i);
                    std::thread([&] { failed += work(i); }).join();
                    _exit(failed);
                }
                int status = -1;
                waitpid(child, &status, 0);
                (status == 0 ? good : bad)++;
            }
        });
    for (auto &f : forkers) f.join();
    stop = true;
    for (auto &t : threads) t.join();
    std::printf("good %d, bad %d\n", good.load(), bad.load());
    return bad != 0;
}
END
plain g++ -O1 -std=c++17 -pthread program.cc -o program || fail "g++"
preload_works ./program
same "fork from threads" ./program
