// Declares what examples/device/microcontroller/main.cc uses of tflite-micro, to compile
// it without; nothing is defined, so that nothing can be linked.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensorflow/lite/schema/schema_generated.h"

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {

class MicroOpResolver;

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& op_resolver,
                   uint8_t* tensor_arena, size_t tensor_arena_size);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  template <class T>
  T* typed_input_tensor(int tensor_index);
  template <class T>
  T* typed_output_tensor(int tensor_index);
};

}  // namespace tflite
