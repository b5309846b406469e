using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>The least that an op must move and compute, from its shapes: what a measured time is held against.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct OpCost
{
    internal OpCost(double bytes, double flops)
    {
        Bytes = bytes;
        Flops = flops;
    }

    /// <summary>Inputs and parameters read once, outputs written once; what an op does in place counts twice.</summary>
    public double Bytes { get; init; }

    /// <summary>Additions and multiplications; a transcendental function counts as nothing beside the products around it.</summary>
    public double Flops { get; init; }

    private const double F = sizeof(float);

    /// <summary>The bytes of both and the operations of both.</summary>
    public static OpCost operator +(OpCost left, OpCost right) => Add(left, right);

    /// <summary>The bytes of both and the operations of both.</summary>
    public static OpCost Add(OpCost left, OpCost right) => new(left.Bytes + right.Bytes, left.Flops + right.Flops);

    /// <summary>A product of n rows with a weight [out, in] of <paramref name="weightBytes"/>.</summary>
    public static OpCost Linear(double rows, double inputs, double outputs, double weightBytes) =>
        new(weightBytes + (F * rows * (inputs + outputs)), 2 * rows * inputs * outputs);

    /// <summary>The product of <see cref="Device.GatedGelu"/>, of whose outputs half are written.</summary>
    public static OpCost GatedGelu(double rows, double inputs, double outputs, double weightBytes) =>
        new(weightBytes + (F * rows * (inputs + (outputs / 2))), 2 * rows * inputs * outputs);

    /// <summary>Attention: every key that some query sees is read once; each pair of a query head and a key costs a product and a sum of d_head, twice.</summary>
    public static OpCost Attend(
        int rows, int position, int headCount, int kvHeadCount, int headDim, int window, DType cacheType = DType.F32)
    {
        double pairs = 0;
        for (int t = 0; t < rows; t++)
            pairs += window > 0 ? Math.Min(position + t + 1, window) : position + t + 1;
        double keys = window > 0 ? Math.Min((double)position + rows, (double)window + rows - 1) : (double)position + rows;
        double kept = 2 * keys * kvHeadCount * headDim * (cacheType == DType.BF16 ? sizeof(ushort) : F);
        return new((F * 2.0 * rows * headCount * headDim) + kept, 4 * pairs * headCount * headDim);
    }

    /// <summary>An encode: the product, bias and threshold read once, and <paramref name="active"/> pairs written.</summary>
    public static OpCost SaeEncode(double rows, double inputs, double features, double weightBytes, double active) =>
        new(weightBytes + (F * ((rows * inputs) + (2 * features) + (2 * active))), 2 * rows * inputs * features);

    /// <summary>A decode: <paramref name="active"/> pairs of (index, value), and of W_dec the rows of the <paramref name="distinct"/> features among them.</summary>
    public static OpCost SaeDecode(double rows, double outputs, double elementBytes, double active, double distinct) =>
        new((distinct * outputs * elementBytes) + (F * ((rows * outputs) + outputs + (2 * active))), 2 * active * outputs);

    /// <summary>An op that reads and writes so many float32 values.</summary>
    internal static OpCost Values(double values, double flops) => new(F * values, flops);
}
