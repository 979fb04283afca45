/* check.h -- the checked build's entry points. */
#ifndef HKM_CHECK_CHECK_H
#define HKM_CHECK_CHECK_H

#include "base/config.h"

/* Walks the whole heap (walk.h); the number of live blocks. */
size_t check_heap(void);

#endif
