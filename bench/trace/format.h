/* format.h -- the file that hakmem-run --trace writes and bench/replay reads.
 * File        the magic, then chunks until the end.  A number is a varint: 7 bits a byte, lowest
 *             first, the high bit set in all bytes but the last.
 * Chunk       thread (1..), the stamp before its first event, bytes that follow, events.  A chunk
 *             is of one thread; the chunks of a thread stand in order, those of different threads
 *             mix.
 * Stamp       events are numbered through the whole process from 1; the stamp of the event that
 *             made a block is the block's name.  A block's stamp is taken after it was made, and
 *             the stamp of its free before it was freed, so that playing the events by stamp is a
 *             legal run.
 * Event       one byte: the operation in the low 3 bits, and in the high 5 how far the stamp is
 *             ahead of the event before in the chunk (STEP_FAR: a varint follows).  Then varints,
 *             as below.  An age is the event's stamp less the block's name: how long, in events,
 *             the block has lived.
 */
#ifndef HAKMEM_TRACE_FORMAT_H
#define HAKMEM_TRACE_FORMAT_H

#define TRACE_MAGIC "HKMTRC1\n"
#define TRACE_MAGIC_BYTES 8u

enum trace_op {
    TRACE_MALLOC = 0,  /* bytes */
    TRACE_CALLOC = 1,  /* bytes */
    TRACE_FREE = 2,    /* age */
    TRACE_REALLOC = 3, /* age, bytes; the block has a new name */
    TRACE_ALIGNED = 4, /* log2 of the alignment, bytes */
    TRACE_END = 5,     /* the thread ends */
    TRACE_OPS = 6
};

#define TRACE_OP_BITS 3u
#define TRACE_STEP_FAR 31u
#define TRACE_EVENT_BYTES_MAX 32u /* 1 + three varints of 10, rounded up */

#endif
