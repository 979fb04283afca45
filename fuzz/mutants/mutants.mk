# mutants.mk -- the seeded bugs and the fault sweep.
#
#   make mutants              every bug of fuzz/mutants/table.txt under every tool, and the table in
#                             docs/MUTANTS.md; hours: ONLY=17,20-30 TOOLS=unit,swarm for a part
#   make mutants-sample       a few bugs that must be caught, as in `make test`
#   make mutants-again        each bug under the tools that saw it, until one does again: half an hour
#   make faults               every site that calls the OS, made to fail in every way

.PHONY: mutants mutants-sample mutants-again faults
mutants:
	@ci/mutants $(if $(ONLY),--only $(ONLY)) $(if $(TOOLS),--tools $(TOOLS))
mutants-sample:
	@ci/mutants --sample
mutants-again:
	@ci/mutants --again

# The sweep names the functions above a call by the frame pointers, and sets os_test.
$(OUT)/debug/test/faults/%: sanity/faults/%.c $(call hkm_of,debug)
	$(call compile_test,$(CC) $(filter-out -fPIC,$(call flags_of,debug)) $(TEST_CFLAGS),$(call hkm_of,debug) -ldl)
faults: $(OUT)/debug/test/faults/sweep
	@FAULT_HITS=$(or $(FAULT_HITS),8) FAULT_ERRNOS=all $<

#   make fuzz-corrupt         single-bit flips in the metadata, checked and release build; a table
#                             each. CORRUPT_FLIPS (200) flips a field
.PHONY: fuzz-corrupt
$(OUT)/debug/fuzz/corrupt: $(OUT)/debug/fuzz/obj/corrupt.o $(call hkm_of,debug)
	$(call fuzz_link,debug)
$(OUT)/release/fuzz/corrupt: $(OUT)/release/fuzz/obj/corrupt.o $(call hkm_of,release)
	$(call fuzz_link,release)
fuzz-corrupt: $(OUT)/debug/fuzz/corrupt $(OUT)/release/fuzz/corrupt
	@$(OUT)/debug/fuzz/corrupt -n $(or $(CORRUPT_FLIPS),200)
	@$(OUT)/release/fuzz/corrupt -n $(or $(CORRUPT_FLIPS),200)
