/* player.h -- plays inputs in children of their own, and shrinks those that fail.
 * Purpose     for the replayer and the swarm, which must outlive what they find. The parent never
 *             starts the allocator, so that each child begins in the same state.
 */
#ifndef FUZZ_PLAYER_H
#define FUZZ_PLAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INPUT_BYTES_MAX ((size_t)16 << 20)

enum play_how {
    PLAY_QUIET = 1,    /* what the child says goes nowhere */
    PLAY_WORDS = 2,    /* each operation is printed before it is done */
    PLAY_UNSTARTED = 4 /* start options are not taken from the input, as in a fuzzing engine */
};

/* Plays one input; 0, or the child's wait status. */
int player_play(const uint8_t *data, size_t size, unsigned how);
/* A failure's kind in words. */
const char *player_status(int status);
/* Removes and simplifies records as long as the input fails in the same way; the new size. */
size_t player_shrink(uint8_t *data, size_t size, unsigned how, unsigned seconds);
/* Prints an input, one record a line, with what it does as far as the record says it. */
void player_print(const uint8_t *data, size_t size);

/* Reads a whole file; NULL when it can not be read. */
uint8_t *player_read(const char *path, size_t *size);
bool player_write(const char *path, const uint8_t *data, size_t size);

#endif
