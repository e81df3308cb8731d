// Classifies an image with LiteRT for Microcontrollers (tflite-micro).
//
//   vit-export tflite RUN/model.keras m.tflite --scheme int8 --target micro --calibration PHOTOS
//   vit-export c-array m.tflite model.h
//
// The image is read from standard input, as raw RGB pixels of the input's size: put your
// camera there. The tests compile this file against declarations only.

#include <cstdint>
#include <cstdio>

#include "model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

// In fast memory if there is enough: every tensor that is computed lies here.
alignas(16) uint8_t arena[MODEL_ARENA_BYTES];

// Fills `pixels`, RGB 0..255, row by row; false if there is no image.
bool read_image(uint8_t* pixels, size_t size) {
  return std::fread(pixels, 1, size, stdin) == size;
}

}  // namespace

int main() {
  const tflite::Model* model = tflite::GetModel(model_data);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    std::fprintf(stderr, "the file has another schema\n");
    return 1;
  }
  static tflite::MicroMutableOpResolver<MODEL_OPERATORS> resolver;
  if (!model_add_operators(resolver)) {
    return 1;
  }
  static tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    std::fprintf(stderr, "the arena is too small, or an operator is missing\n");
    return 1;
  }

  static uint8_t pixels[MODEL_INPUT_SIZE];
  auto* input = interpreter.typed_input_tensor<MODEL_INPUT_TYPE>(0);
  auto* output = interpreter.typed_output_tensor<MODEL_OUTPUT_TYPE>(0);
  while (read_image(pixels, sizeof(pixels))) {
    for (int i = 0; i < MODEL_INPUT_SIZE; ++i) {  // a copy if the input is uint8
      input[i] = static_cast<MODEL_INPUT_TYPE>(pixels[i] / MODEL_INPUT_SCALE +
                                               MODEL_INPUT_ZERO_POINT);
    }
    if (interpreter.Invoke() != kTfLiteOk) {
      return 1;
    }
    int best = 0;
    for (int i = 0; i < MODEL_OUTPUT_SIZE; ++i) {
      best = output[i] > output[best] ? i : best;
      std::printf("%g ", (output[i] - MODEL_OUTPUT_ZERO_POINT) * MODEL_OUTPUT_SCALE);
    }
#ifdef MODEL_LABELS
    std::printf("%s\n", model_labels[best]);
#else
    std::printf("%d\n", best);
#endif
  }
  return 0;
}
