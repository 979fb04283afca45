/* replay.c -- plays inputs of the operations harness, each in a process of its own.
 *
 *     replay [-v] [-m FILE] [-n] FILE|FOLDER...
 *       -v       prints each operation in words before it is done
 *       -n       start options are not taken from the inputs (as in libFuzzer and AFL++)
 *       -m FILE  shrinks the one input, if it fails, writes it to FILE and prints it in words
 *     Exit code 0 when no input fails, 1 when any does.
 *
 * An input that begins with start options is played twice without -n: with and without them.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "grammar.h"
#include "player.h"

#define SHRINK_SECONDS 120u

static unsigned how;
static const char *shrink_to;
static unsigned played, failed;

static void shrink(uint8_t *data, size_t size, unsigned as) {
    size = player_shrink(data, size, as & ~(unsigned)PLAY_WORDS, SHRINK_SECONDS);
    printf("%zu operations are left, in %s:\n", size / RECORD_BYTES, shrink_to);
    player_print(data, size);
    (void)fflush(stdout);
    (void)player_play(data, size, as);
    if (!player_write(shrink_to, data, size))
        perror(shrink_to);
}

static void play_one(const char *path, uint8_t *data, size_t size, unsigned as) {
    int status = player_play(data, size, as);
    played++;
    if (status == 0)
        return;
    failed++;
    printf("FAILED %s%s: %s\n", path, (as & PLAY_UNSTARTED) != 0 ? " (without start options)" : "",
           player_status(status));
    if (shrink_to != NULL)
        shrink(data, size, as);
}

static void play_file(const char *path) {
    size_t size = 0;
    uint8_t *data = player_read(path, &size);
    if (data == NULL) {
        perror(path);
        failed++;
        return;
    }
    struct record first = {.op = OP_MALLOC};
    if (size >= RECORD_BYTES)
        grammar_decode(data, &first);
    play_one(path, data, size, how);
    if (first.op == OP_START && (how & PLAY_UNSTARTED) == 0)
        play_one(path, data, size, how | PLAY_UNSTARTED);
    free(data);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return alphasort(a, b); }

static void play_path(const char *path) {
    struct stat about;
    struct dirent **entries;
    if (stat(path, &about) == 0 && S_ISREG(about.st_mode)) {
        play_file(path);
        return;
    }
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0) {
        perror(path);
        failed++;
        return;
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            play_path(name);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "vnm:")) != -1;) {
        if (option == 'v')
            how |= PLAY_WORDS;
        else if (option == 'n')
            how |= PLAY_UNSTARTED;
        else if (option == 'm')
            shrink_to = optarg;
        else
            return 2;
    }
    if (optind == argc) {
        fprintf(stderr, "usage: replay [-v] [-n] [-m FILE] FILE|FOLDER...\n");
        return 2;
    }
    for (int i = optind; i < argc; i++)
        play_path(argv[i]);
    printf("%u played, %u failed\n", played, failed);
    return failed > 0 || played == 0;
}
