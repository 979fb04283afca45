# steps.mk -- sanity/steps: short threads of the allocator in every order of their steps.
#
#   make steps                every case; release and under ThreadSanitizer
#   $(OUT)/<build>-noise/steps/NAME [CASE [SCHEDULE]]

define steps_template
$(OUT)/$(1)/steps/%: sanity/steps/%.c sanity/steps/steps.inc $(call hkm_of,$(1))
	$$(call compile_test,$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(TEST_CFLAGS),$(call hkm_of,$(1)) -ldl)
-include $(wildcard $(OUT)/$(1)/steps/*.d)
endef
STEPS_BUILDS := release-noise debug-noise san-thread-noise
$(foreach build,$(STEPS_BUILDS),$(eval $(call steps_template,$(build))))

STEPS_NAMES := $(basename $(notdir $(sort $(wildcard sanity/steps/*.c))))
.PHONY: steps
steps: $(foreach build,release-noise san-thread-noise,$(STEPS_NAMES:%=$(OUT)/$(build)/steps/%))
	@for program in $^; do echo "$$program"; timeout 600 $$program || exit 1; done
