/* player.c -- children that play inputs, and delta debugging on records; see player.h. */
#include "player.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "grammar.h"
#include "harness.h"

#define PLAY_SECONDS 60u

static void play_in_child(const uint8_t *data, size_t size, unsigned how) {
    if ((how & PLAY_QUIET) != 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nowhere, 2);
    }
    (void)alarm(PLAY_SECONDS);
    harness_verbose = (how & PLAY_WORDS) != 0;
    if ((how & PLAY_UNSTARTED) != 0)
        harness_start(NULL, 0);
    harness_run(data, size);
    exit(0); /* not _exit: coverage is written then */
}

int player_play(const uint8_t *data, size_t size, unsigned how) {
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        play_in_child(data, size, how);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fuzz: fork");
        exit(2);
    }
    return status;
}

const char *player_status(int status) {
    static char text[64];
    if (WIFSIGNALED(status))
        (void)snprintf(text, sizeof text, "%s",
                       WTERMSIG(status) == SIGALRM ? "no end in 60 s"
                                                   : strsignal(WTERMSIG(status)));
    else
        (void)snprintf(text, sizeof text, "exit code %d", WEXITSTATUS(status));
    return text;
}

/* ---- shrinking ---- */

struct shrink {
    int status; /* how it must fail */
    unsigned how;
    time_t until;
};

static bool fails(const struct shrink *s, const uint8_t *data, size_t size) {
    return time(NULL) < s->until && player_play(data, size, s->how | PLAY_QUIET) == s->status;
}

/* Leaves out pieces of `records` records wherever that does not matter; the new size. */
static size_t leave_out(const struct shrink *s, uint8_t *data, size_t size, uint8_t *trial,
                        size_t records) {
    size_t piece = records * RECORD_BYTES;
    for (size_t end = size; end > 0 && time(NULL) < s->until;) {
        size_t from = end > piece ? end - piece : 0;
        memcpy(trial, data, from);
        memcpy(trial + from, data + end, size - end);
        if (fails(s, trial, size - (end - from))) {
            memcpy(data, trial, size - (end - from));
            size -= end - from;
        }
        end = from;
    }
    return size;
}

/* Makes the fields of a record plain, one after the other, where that does not matter. */
static void simplify(const struct shrink *s, uint8_t *data, size_t size) {
    static const struct {
        uint8_t byte, mask, to;
    } STEPS[] = {{7, 0x0f, 0}, {7, 0x0f, 6}, {7, 0x0f, 9},    {7, 0x0f, 12}, {1, 0x07, 0},
                 {1, 0xf8, 0}, {7, 0xf0, 0}, {4, 0x60, 0x40}, {6, 0xff, 0},  {3, 0xff, 0}};
    for (size_t at = 0; at < size; at += RECORD_BYTES) {
        for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
            uint8_t *byte = &data[at + STEPS[i].byte];
            uint8_t was = *byte;
            uint8_t plain = (uint8_t)((was & ~STEPS[i].mask) | STEPS[i].to);
            if (plain == was || (STEPS[i].byte == 7 && STEPS[i].mask == 0x0f && plain > was))
                continue;
            *byte = plain;
            if (!fails(s, data, size))
                *byte = was;
        }
    }
}

size_t player_shrink(uint8_t *data, size_t size, unsigned how, unsigned seconds) {
    size -= size % RECORD_BYTES;
    struct shrink s = {.how = how, .until = time(NULL) + seconds + 60};
    s.status = player_play(data, size, how | PLAY_QUIET);
    s.until = time(NULL) + seconds;
    uint8_t *trial = malloc(size + 1);
    if (s.status == 0 || trial == NULL)
        return size;
    for (bool better = true; better && time(NULL) < s.until;) {
        size_t before = size;
        for (size_t records = size / RECORD_BYTES / 2; records > 0; records /= 2)
            size = leave_out(&s, data, size, trial, records);
        better = size < before;
    }
    simplify(&s, data, size);
    size = leave_out(&s, data, size, trial, 1);
    free(trial);
    return size;
}

void player_print(const uint8_t *data, size_t size) {
    for (size_t at = 0; at + RECORD_BYTES <= size; at += RECORD_BYTES) {
        struct record r;
        grammar_decode(data + at, &r);
        printf("  #%zu ", at / RECORD_BYTES);
        grammar_print(stdout, &r);
        printf("\n");
    }
}

/* ---- files ---- */

uint8_t *player_read(const char *path, size_t *size) {
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return NULL;
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    if (data != NULL)
        *size = fread(data, 1, INPUT_BYTES_MAX, file);
    (void)fclose(file);
    return data;
}

bool player_write(const char *path, const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "wbe");
    if (file == NULL)
        return false;
    bool whole = fwrite(data, 1, size, file) == size;
    return fclose(file) == 0 && whole;
}
