# stress.mk -- the stress programs and the builds of the library that only they use.
#
#   make stress               every program, release and debug; STRESS_SECONDS, THREADS, SEED
#   make stress SAN=thread    every program in that sanitizer's builds; address, undefined, memory
#   make stress-full          the whole matrix, hours: ci/matrix --full --list says how many
#   make stress-BUILD         only builds the programs for a build, such as san-thread-noise
#
#   $(OUT)/<build>/stress/NAME    stress/NAME.c, stress.c and noise.c with the build's libhkm
#
# Builds: release, debug, san-<name>, san-<name>-debug, and each of them with -noise behind it.

STRESS_NAMES  := $(filter-out stress noise,$(basename $(notdir $(sort $(wildcard stress/*.c)))))
STRESS_QUIET_BUILDS := release debug $(SANITIZERS:%=san-%) $(SANITIZERS:%=san-%-debug)
STRESS_BUILDS := $(STRESS_QUIET_BUILDS) $(STRESS_QUIET_BUILDS:%=%-noise)
STRESS_FLAGS  := -Istress -fno-builtin -pthread $(WARN)
STRESS_PLUGINS := plugin0 plugin1 plugin2 plugin3

$(foreach build,$(filter-out $(VARIANTS),$(STRESS_BUILDS)),$(eval $(call build_template,$(build))))

# The library of a build: as the Makefile has it, or made here.
define stress_archive
$(OUT)/$(1)/libhkm.a: $(call objs,$(1),$(PREFIXED))
	$$(make_archive)
endef
$(foreach build,$(filter-out $(VARIANTS),$(STRESS_BUILDS)),$(eval $(call stress_archive,$(build))))

# The programs export hkm_* to the plugins.
define stress_template
$(OUT)/$(1)/stress/%.o: stress/%.c stress/stress.h include/hakmem/hakmem.h $(OUT)/$(1)/obj/flags
	@mkdir -p $$(@D)
	$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(STRESS_FLAGS) $$(CFLAGS) -c -o $$@ $$<
$(OUT)/$(1)/stress/plugin%.so: stress/plugin/plugin.c include/hakmem/hakmem.h $(OUT)/$(1)/obj/flags
	@mkdir -p $$(@D)
	$(call cc_of,$(1)) $(filter-out -ftls-model=%,$(call flags_of,$(1))) -fvisibility=default $(STRESS_FLAGS) $$(CFLAGS) -shared -o $$@ $$<
$(STRESS_NAMES:%=$(OUT)/$(1)/stress/%): $(OUT)/$(1)/stress/%: $(OUT)/$(1)/stress/%.o $(OUT)/$(1)/stress/stress.o $(OUT)/$(1)/stress/noise.o $(call hkm_of,$(1))
	$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) -pthread -rdynamic $$(CFLAGS) -o $$@ $$(filter %.o %.a,$$^) $$(LDFLAGS) -ldl
$(OUT)/$(1)/stress/dlopen_storm: $(STRESS_PLUGINS:%=$(OUT)/$(1)/stress/%.so)
.PHONY: stress-$(1)
stress-$(1): $(STRESS_NAMES:%=$(OUT)/$(1)/stress/%)
endef
$(foreach build,$(STRESS_BUILDS),$(eval $(call stress_template,$(build))))

STRESS_CHOICE = $(if $(SAN),san-$(SAN) san-$(SAN)-noise san-$(SAN)-debug,release debug)

# ---- soak: make soak HOURS=1, SOAK_BUILD=release ----------------------------------

SOAK_NAMES := $(filter-out oom,$(STRESS_NAMES))
SOAK_BUILD ?= release
HOURS      ?= 1

define soak_template
$(OUT)/$(1)/stress/soak/%.o: stress/%.c stress/soak/soak.h stress/stress.h $(OUT)/$(1)/obj/flags
	@mkdir -p $$(@D)
	$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(STRESS_FLAGS) -Dmain=$$*_main -include soak/soak.h $$(CFLAGS) -c -o $$@ $$<
$(OUT)/$(1)/stress/soak/soak.o: stress/soak/soak.c stress/soak/soak.h stress/stress.h $(OUT)/$(1)/obj/flags
	@mkdir -p $$(@D)
	$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) $(STRESS_FLAGS) $$(CFLAGS) -c -o $$@ $$<
$(OUT)/$(1)/stress/soak_all: $(SOAK_NAMES:%=$(OUT)/$(1)/stress/soak/%.o) $(OUT)/$(1)/stress/soak/soak.o $(OUT)/$(1)/stress/stress.o $(OUT)/$(1)/stress/noise.o $(call hkm_of,$(1)) $(STRESS_PLUGINS:%=$(OUT)/$(1)/stress/%.so)
	$(call cc_of,$(1)) $(filter-out -fPIC,$(call flags_of,$(1))) -pthread -rdynamic $$(CFLAGS) -o $$@ $$(filter %.o %.a,$$^) $$(LDFLAGS) -ldl
endef
$(foreach build,$(STRESS_BUILDS),$(eval $(call soak_template,$(build))))

.PHONY: soak
soak: $(OUT)/$(SOAK_BUILD)/stress/soak_all
	@mkdir -p $(OUT)/soak
	@status=0; SOAK_HOURS='$(HOURS)' SOAK_FOLDER='$(OUT)/soak' STRESS_QUIET=1 nice $< || status=$$?; \
	 gnuplot -e "folder='$(OUT)/soak'" stress/soak/soak.gp && echo 'plotted: $(OUT)/soak/soak.svg'; \
	 exit $$status

.PHONY: stress stress-full stress-servers
stress-servers: release debug
	@stress/servers/run -s '$(or $(STRESS_SECONDS),60)'
stress:
	@ci/matrix --builds '$(STRESS_CHOICE)' --threads '$(or $(THREADS),8)' \
	    --seconds '$(or $(STRESS_SECONDS),5)' $(if $(SEED),--seed '$(SEED)') --options default
stress-full:
	@ci/matrix --full
