// All of it is there already.

#pragma once

#include "cuda_runtime.h"
