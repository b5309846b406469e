using System.Globalization;
using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.CpuBits;

/// <summary>Products of every stored form with numbers of rows on both sides of every bound at which another kernel takes over.</summary>
internal static unsafe class Products
{
    private static readonly int[] Rows =
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 23, 31, 32, 33, 64, 65, 191, 192, 193, 300, 768, 769];
    private static readonly (int Inputs, int Outputs)[] Shapes = [(67, 33), (256, 64), (389, 200), (600, 4096), (260, 4700), (2048, 80)];
    private static readonly DType[] Types = [DType.F32, DType.BF16, DType.F16, DType.F64];

    /// <summary>Runs each and gives its name; its results were read from the device then.</summary>
    public static IEnumerable<string> Run(Device device)
    {
        foreach ((int inputs, int outputs) in Shapes)
        {
            foreach (DType type in Types)
            {
                foreach (bool transposed in (bool[])[false, true])
                {
                    using var stored = new Stored(type, inputs, outputs, transposed);
                    foreach (int rows in Rows)
                    {
                        RunOne(device, stored, rows, inputs, outputs);
                        yield return string.Create(
                            CultureInfo.InvariantCulture,
                            $"{rows} rows by {type} [{outputs}, {inputs}]{(transposed ? " stored [in, out]" : "")}");
                    }
                }
            }
        }
    }

    private static void RunOne(Device device, Stored stored, int rows, int inputs, int outputs)
    {
        using Weight weight = device.CreateWeight("w", stored.Part);
        Mat x = device.CreateMat(rows, inputs, "x"), y = device.CreateMat(rows, outputs, "y");
        using DeviceBuffer ofX = x.Buffer, ofY = y.Buffer;
        var random = new Random(rows);
        float[] values = [.. Enumerable.Range(0, rows * inputs).Select(_ => random.NextSingle() - 0.5f)];
        float[] results = new float[rows * outputs];
        device.Write(values, x);
        device.Linear(x, weight, y);
        device.Read(y, results);
        if (outputs % 2 == 0)
        {
            Mat half = y.ColumnRange(0, outputs / 2);
            device.GatedGelu(x, weight, half);
            device.Read(half, results.AsSpan(0, rows * outputs / 2));
        }
    }

    /// <summary>A random matrix in memory, as a file would lend it.</summary>
    private sealed class Stored : IDisposable
    {
        private readonly byte* _memory;

        public Stored(DType type, int inputs, int outputs, bool transposed)
        {
            _memory = (byte*)NativeMemory.AlignedAlloc((nuint)((long)inputs * outputs * type.ByteSize()), 64);
            var random = new Random(inputs);
            for (int n = 0; n < inputs * outputs; n++)
            {
                // Some lie far outside the others' exponents: exceptions of compact panels.
                float value = (random.NextSingle() - 0.5f) * (random.Next(500) == 0 ? 1e-7f : 0.1f);
                switch (type)
                {
                    case DType.F32:
                        ((float*)_memory)[n] = value;
                        break;
                    case DType.BF16:
                        ((ushort*)_memory)[n] = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
                        break;
                    case DType.F16:
                        ((Half*)_memory)[n] = (Half)value;
                        break;
                    default:
                        ((double*)_memory)[n] = value;
                        break;
                }
            }

            long[] shape = transposed ? [inputs, outputs] : [outputs, inputs];
            Part = new WeightPart(new TensorView("(memory)", new TensorInfo("w", type, shape), _memory, this), transposed);
        }

        public WeightPart Part { get; }

        public void Dispose() => NativeMemory.AlignedFree(_memory);
    }
}
