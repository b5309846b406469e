using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>A function of one value in vector form.</summary>
internal interface IVectorUnary<T>
{
    static abstract Vector512<T> Of(Vector512<T> a);
}

/// <summary>A function of two values in vector form.</summary>
internal interface IVectorBinary<T>
{
    static abstract Vector512<T> Of(Vector512<T> a, Vector512<T> b);
}

/// <summary>A function of three values in vector form.</summary>
internal interface IVectorTernary<T>
{
    static abstract Vector512<T> Of(Vector512<T> a, Vector512<T> b, Vector512<T> c);
}

/// <summary>Lane masks as vectors.</summary>
internal static unsafe class VectorMask
{
    /// <summary>All ones in the lanes of a mask, for the vector that begins at lane <paramref name="first"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<T> Of<T>(uint mask, int first)
        where T : unmanaged
    {
        if (sizeof(T) == 8)
        {
            Vector512<ulong> bits = Vector512.Create(1UL, 2, 4, 8, 16, 32, 64, 128);
            return Vector512.Equals(Vector512.Create((ulong)(mask >> first)) & bits, bits).As<ulong, T>();
        }
        Vector512<uint> ones = Vector512.Create(1u, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        return Vector512.Equals(Vector512.Create(mask >> first) & ones, ones).As<uint, T>();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T* target, int lane, Vector512<T> value, uint mask)
        where T : unmanaged
    {
        if (mask != Op.FullMask)
            value = Vector512.ConditionalSelect(Of<T>(mask, lane), value, Vector512.Load(target + lane));
        value.Store(target + lane);
    }
}

/// <summary>Applies a vector function to all lanes and keeps the active ones. T is 4 or 8 bytes wide.</summary>
internal sealed unsafe class VectorUnary<T, TF>(Slot d, Slot a) : Op
    where T : unmanaged
    where TF : struct, IVectorUnary<T>
{
    public override void Execute(Warp warp, uint mask)
    {
        T* x = (T*)warp.At(a);
        T* r = (T*)warp.At(d);
        for (int lane = 0; lane < 32; lane += Vector512<T>.Count)
            VectorMask.Store(r, lane, TF.Of(Vector512.Load(x + lane)), mask);
    }
}

/// <inheritdoc cref="VectorUnary{T,TF}"/>
internal sealed unsafe class VectorBinary<T, TF>(Slot d, Slot a, Slot b) : Op
    where T : unmanaged
    where TF : struct, IVectorBinary<T>
{
    public override void Execute(Warp warp, uint mask)
    {
        T* x = (T*)warp.At(a);
        T* y = (T*)warp.At(b);
        T* r = (T*)warp.At(d);
        for (int lane = 0; lane < 32; lane += Vector512<T>.Count)
            VectorMask.Store(r, lane, TF.Of(Vector512.Load(x + lane), Vector512.Load(y + lane)), mask);
    }
}

/// <inheritdoc cref="VectorUnary{T,TF}"/>
internal sealed unsafe class VectorTernary<T, TF>(Slot d, Slot a, Slot b, Slot c) : Op
    where T : unmanaged
    where TF : struct, IVectorTernary<T>
{
    public override void Execute(Warp warp, uint mask)
    {
        T* x = (T*)warp.At(a);
        T* y = (T*)warp.At(b);
        T* z = (T*)warp.At(c);
        T* r = (T*)warp.At(d);
        for (int lane = 0; lane < 32; lane += Vector512<T>.Count)
            VectorMask.Store(r, lane, TF.Of(Vector512.Load(x + lane), Vector512.Load(y + lane), Vector512.Load(z + lane)), mask);
    }
}
