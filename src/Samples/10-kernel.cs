using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KernelScope.PtxEmulator;

namespace KernelScope.Samples;

/// <summary>Runs a GPU kernel's PTX in the emulator, compares with plain C#, and prints what the kernel did.</summary>
internal static class ReadAKernel
{
    private const int Rows = 2, Columns = 1024;
    private const float Epsilon = 1e-6f;

    public static void Main(string[] args)
    {
        PtxModule module = PtxModule.Parse(File.ReadAllText(args[0]), Path.GetFileName(args[0]));
        PtxKernel kernel = module.Kernel("rms_norm");
        Console.WriteLine($"{kernel.Name}: PTX {module.Version} for {module.Target}, {kernel.StaticSharedBytes} bytes of shared memory");

        // Values and gains, the same in every run.
        float[] x = [.. Enumerable.Range(0, Rows * Columns).Select(i => ((i * 37) % 101) - 50f)];
        float[] gain = [.. Enumerable.Range(0, Columns).Select(i => i % 8 / 8f)];

        using var gpu = new EmulatedGpu();
        ulong xAddress = Upload(gpu, x, "x"), gainAddress = Upload(gpu, gain, "gain"), yAddress = gpu.Allocate(4 * x.Length, "y");
        byte[] parameters = new byte[kernel.ParameterBytes];
        object[] values =
        [
            (xAddress, (long)x.Length), (gainAddress, (long)Columns), (yAddress, (long)x.Length), Epsilon, Columns, Columns, Columns, 1,
        ];
        foreach ((PtxParameter parameter, object value) in kernel.Parameters.Zip(values))
            Put(parameters.AsSpan(parameter.Offset), value);

        // One group of 512 threads for each row.
        LaunchResult counters = gpu.Launch(kernel, grid: new Dim3(Rows), block: new Dim3(512), dynamicSharedBytes: 0, parameters);
        float[] y = new float[x.Length];
        gpu.Read(yAddress, MemoryMarshal.AsBytes(y.AsSpan()));
        Console.WriteLine($"largest difference to plain C#: {Difference(x, gain, y):0e-0}");

        Console.WriteLine($"{counters.WarpInstructions} instructions of warps, {counters.ThreadInstructions} of threads");
        Console.WriteLine($"global loads:  {counters.GlobalLoads.UsefulBytes} bytes used of {counters.GlobalLoads.MovedBytes} moved");
        Console.WriteLine($"global stores: {counters.GlobalStores.UsefulBytes} bytes used of {counters.GlobalStores.MovedBytes} moved");
        Console.WriteLine($"shared memory: {counters.SharedLoads.ExtraWavefronts + counters.SharedStores.ExtraWavefronts} bank conflicts");
        Console.WriteLine($"{counters.DivergentBranches} divergent branches, {counters.WarpBarriers} barriers of warps");
        Console.WriteLine("the three instructions that ran most often:");
        foreach (InstructionCount line in counters.Instructions.OrderByDescending(i => i.ThreadExecutions).Take(3))
            Console.WriteLine($"  line {line.Line}: {line.ThreadExecutions,6} times  {line.Text}");
    }

    private static ulong Upload(EmulatedGpu gpu, float[] values, string name)
    {
        ulong address = gpu.Allocate(4 * values.Length, name);
        gpu.Write(address, MemoryMarshal.AsBytes(values.AsSpan()));
        return address;
    }

    /// <summary>A view is 16 bytes: an address and a number of elements. Numbers are 4 bytes.</summary>
    private static void Put(Span<byte> place, object value)
    {
        if (value is (ulong address, long count))
        {
            BinaryPrimitives.WriteUInt64LittleEndian(place, address);
            BinaryPrimitives.WriteInt64LittleEndian(place[8..], count);
        }
        else if (value is float number)
        {
            BinaryPrimitives.WriteSingleLittleEndian(place, number);
        }
        else
        {
            BinaryPrimitives.WriteInt32LittleEndian(place, (int)value);
        }
    }

    /// <summary>y = x / √(mean of x² + ε) · (1 + gain), in double.</summary>
    private static double Difference(float[] x, float[] gain, float[] y)
    {
        double largest = 0;
        for (int row = 0; row < Rows; row++)
        {
            double squares = x.Skip(row * Columns).Take(Columns).Sum(v => (double)v * v);
            for (int j = 0; j < Columns; j++)
            {
                double expected = x[(row * Columns) + j] / Math.Sqrt((squares / Columns) + Epsilon) * (1 + gain[j]);
                largest = Math.Max(largest, Math.Abs(y[(row * Columns) + j] - expected));
            }
        }

        return largest;
    }
}
