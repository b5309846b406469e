using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Measuring;

/// <summary>An SAE of random values on a device, with inputs of which each fires about a hundred features.</summary>
internal sealed class RandomSae : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    /// <summary>Makes it.</summary>
    /// <exception cref="InsufficientMemoryException">There is not enough memory.</exception>
    public RandomSae(Device device, int modelDim, int features, DType type, IProgress<double> progress, CancellationToken cancellation)
    {
        try
        {
            RandomTensors tensors = Own(RandomTensors.InMemory("(random SAE)", Tensors(modelDim, features, type), progress,
                cancellation));
            // A pre-activation is a sum of d products of a uniform input in ±1 and a weight: its deviation is √(d/3) times the weight's.
            // Of 16,384 normal values 76 lie above 2.6 deviations, of 65,536 88 above 3, of 131,072 90 above 3.2.
            double deviations = features > 1 << 16 ? 3.2 : features > 1 << 15 ? 3 : 2.6;
            float threshold = (float)(deviations * Math.Sqrt(modelDim / 3.0) * RandomValues.Deviation);
            Parameters = new SaeParameters(
                Own(device.CreateWeight("W_enc", new WeightPart(tensors["W_enc"], transposed: true))), Row(device, features, 0),
                Row(device, features, threshold),
                Own(device.CreateWeight("W_dec", new WeightPart(tensors["W_dec"], transposed: true))), Row(device, modelDim, 0));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public SaeParameters Parameters { get; }

    /// <summary>The two matrices of an SAE.</summary>
    public static List<TensorInfo> Tensors(int modelDim, int features, DType type) =>
        [new("W_enc", type, [modelDim, features]), new("W_dec", type, [features, modelDim])];

    /// <summary>Rows of uniform values in ±1; the caller disposes the buffer.</summary>
    public static Mat Inputs(Device device, int rows, int modelDim)
    {
        Mat inputs = device.CreateMat(rows, modelDim, "inputs");
        device.Write(RandomValues.Create(rows * modelDim, 1), inputs);
        return inputs;
    }

    /// <summary>The device's part first, then the memory that it may lie in.</summary>
    public void Dispose()
    {
        for (int i = _owned.Count - 1; i >= 0; i--)
            _owned[i].Dispose();
        _owned.Clear();
    }

    private Mat Row(Device device, int columns, float value)
    {
        Mat row = device.CreateMat(1, columns, "row");
        _owned.Add(row.Buffer);
        float[] values = new float[columns];
        Array.Fill(values, value);
        device.Write(values, row);
        return row;
    }

    private T Own<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }
}
