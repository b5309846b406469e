using System.Runtime.CompilerServices;

namespace KernelScope.Kernels;

/// <summary>One key or value as a cache keeps it.</summary>
/// <typeparam name="TSelf">The implementing type.</typeparam>
public interface IKvValue<TSelf> : IWeight<TSelf>
    where TSelf : unmanaged, IKvValue<TSelf>
{
    /// <summary>The value, rounded to nearest even where it must be.</summary>
    static abstract TSelf Narrow(float value);
}

/// <summary>Four neighbouring keys or values as a cache keeps them, which a lane loads at once.</summary>
/// <typeparam name="TSelf">The implementing type.</typeparam>
public interface IKvQuad<TSelf>
    where TSelf : unmanaged, IKvQuad<TSelf>
{
    /// <summary>The values, exactly.</summary>
    static abstract Float4 Widen(TSelf quad);
}

/// <summary>Two 32-bit words in a row: four bfloat16, the first in the lower half of the first word.</summary>
public struct Words2 : IKvQuad<Words2>
{
    /// <summary>First word.</summary>
    public uint X;

    /// <summary>Second word.</summary>
    public uint Y;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 Widen(Words2 quad) => new()
    {
        X = BF16.Low(quad.X),
        Y = BF16.High(quad.X),
        Z = BF16.Low(quad.Y),
        W = BF16.High(quad.Y),
    };
}
