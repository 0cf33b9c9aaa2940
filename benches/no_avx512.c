// Answers CPUID as a processor without AVX-512 and AMX would, where the instruction was replaced by a breakpoint and a
// no-operation (see no_avx512.py). Bits are from Intel's manual, volume 2A, CPUID, leaf 7.
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

// F, DQ, IFMA, PF, ER, CD, BW, VL.
#define LEAF_7_EBX (1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31)
// VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
#define LEAF_7_ECX (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)
// 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, FP16, AMX-TILE, AMX-INT8.
#define LEAF_7_EDX (1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25)
// AVX-VNNI, AVX512-BF16.
#define LEAF_7_1_EAX (1u << 4 | 1u << 5)

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    (void)number, (void)info;
    __cpuid_count(leaf, subleaf, a, b, c, d);
    if (leaf == 7 && subleaf == 0) {
        b &= ~LEAF_7_EBX;
        c &= ~LEAF_7_ECX;
        d &= ~LEAF_7_EDX;
    } else if (leaf == 7 && subleaf == 1) {
        a &= ~LEAF_7_1_EAX;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    // The breakpoint is behind, the no-operation is next.
    registers[REG_RIP] += 1;
}

__attribute__((constructor)) static void listen(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGTRAP, &action, NULL);
}
