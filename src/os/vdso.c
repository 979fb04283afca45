/* vdso.c -- the kernel's shared object, read where it lies; see vdso.h.
 * Invariants  it is an ELF file as the kernel built it, in which the table of symbols ends where
 *             the strings begin: newer ones have no other count of them that is easily read.
 */
#include "os/vdso.h"

#include <link.h>
#include <string.h>
#include <sys/auxv.h>

uintptr_t vdso_find(const char *name) {
    uintptr_t start = getauxval(AT_SYSINFO_EHDR), shift = start;
    if (start == 0)
        return 0;
    const ElfW(Ehdr) *head = (const void *)start;
    const ElfW(Phdr) *part = (const void *)(start + head->e_phoff);
    const ElfW(Dyn) *entry = NULL;
    for (const ElfW(Phdr) *end = part + head->e_phnum; part < end; part++) {
        if (part->p_type == PT_LOAD)
            shift = start + part->p_offset - part->p_vaddr;
        else if (part->p_type == PT_DYNAMIC)
            entry = (const void *)(start + part->p_offset);
    }
    const ElfW(Sym) *symbol = NULL;
    const char *names = NULL;
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB)
            symbol = (const void *)(shift + entry->d_un.d_ptr);
        else if (entry->d_tag == DT_STRTAB)
            names = (const void *)(shift + entry->d_un.d_ptr);
    }
    for (; symbol != NULL && (const char *)symbol < names; symbol++)
        if (symbol->st_shndx != SHN_UNDEF && strcmp(names + symbol->st_name, name) == 0)
            return shift + symbol->st_value;
    return 0;
}
