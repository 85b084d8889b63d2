/*
 * Loads the BLAS on demand.
 *
 * Invariant: the function pointers are set once, all or none, before slm_blas_load first returns SLM_OK; the rule of one training at a
 * time in a process (a backend has one thread of its own) makes a lock unnecessary.
 */
#include "engine/train/blas.h"

#include <cblas.h>
#include <dlfcn.h>
#include <string.h>

static struct {
    void *library;
    void (*sgemm)(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, int, int, int, float, const float *, int, const float *,
                  int, float, float *, int);
    void (*spotrf)(const char *, const int *, float *, const int *, int *);
    void (*spotri)(const char *, const int *, float *, const int *, int *);
} blas;

/* A pointer to an object as a pointer to a function: what POSIX promises of dlsym, in the form that ISO C allows. */
static bool symbol(void *library, const char *name, void *out)
{
    void *found = dlsym(library, name);
    memcpy(out, &found, sizeof found);
    return found != NULL;
}

slm_status slm_blas_load(slm_error *err)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", "libblas.so.3"};
    void (*set_threads)(int) = NULL;
    if (blas.library != NULL)
        return SLM_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            continue;
        if (symbol(library, "cblas_sgemm", &blas.sgemm) && symbol(library, "spotrf_", &blas.spotrf) &&
            symbol(library, "spotri_", &blas.spotri)) {
            if (symbol(library, "openblas_set_num_threads", &set_threads))
                set_threads(1); /* the variant with threads of its own: none are wanted */
            blas.library = library;
            return SLM_OK;
        }
        dlclose(library);
    }
    slm_fail(err, SLM_UNSUPPORTED, "training needs OpenBLAS, which could not be loaded");
    return slm_hint(err, "Install it: apt install libopenblas0-serial");
}

void slm_blas_gemm(bool trans_a, bool trans_b, uint32_t m, uint32_t n, uint32_t k, const float *a, size_t lda, const float *b, size_t ldb,
                   float beta, float *c, size_t ldc)
{
    blas.sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, (int) m, (int) n, (int) k, 1.0f, a,
               (int) lda, b, (int) ldb, beta, c, (int) ldc);
}

bool slm_blas_invert(float *a, uint32_t n)
{
    int size = (int) n, info = 0;
    blas.spotrf("L", &size, a, &size, &info);
    if (info != 0)
        return false;
    blas.spotri("L", &size, a, &size, &info);
    if (info != 0)
        return false;
    /* column-major lower is row-major upper: mirror it */
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            a[(size_t) i * n + j] = a[(size_t) j * n + i];
    return true;
}
