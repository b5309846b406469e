using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Cpu;

/// <summary>Arguments of the ops that go row by row. Each op uses the fields that its equation names.</summary>
internal unsafe struct RowJob
{
    public float* X;
    public long XStride;
    public float* Y;
    public long YStride;

    /// <summary>A row for all rows: a gain, a table.</summary>
    public float* Gain;

    /// <summary>A second one.</summary>
    public float* NextGain;

    /// <summary>A third matrix, the destination of a fused op.</summary>
    public float* Z;
    public long ZStride;
    public int Rows;
    public int Columns;

    /// <summary>ε, α, cap or scale.</summary>
    public float Scalar;

    /// <summary>Rows of one unit.</summary>
    public int UnitRows;

    public int* Tokens;
    public StoredMatrix* Parts;
    public int Position;
    public int HeadDim;
    public KvSlots Cache;

    /// <summary>Where each row belongs, where the rows are those of several sequences.</summary>
    public RowPlace* Places;
}

/// <summary>A row of a call with several sequences.</summary>
internal struct RowPlace
{
    /// <summary>The row of the matrix.</summary>
    public int Row;

    /// <summary>Its position in its sequence.</summary>
    public int Position;

    /// <summary>Its sequence's keys and values.</summary>
    public KvSlots Cache;
}

/// <summary>The ops that treat each row by itself and are bound by memory or by nothing at all.</summary>
/// <remarks>Partition: a unit is a few rows. Bytes: each matrix once.</remarks>
internal static unsafe class RowOps<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>u = x · (mean(x²) + ε)^(−1/2).</summary>
    public static void Normalize(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            Norm.Normalize(job->X + (t * job->XStride), job->Columns, job->Scalar, job->Y + (t * job->YStride));
    }

    /// <summary>y = u · (1 + g).</summary>
    public static void ApplyGain(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            ApplyGain(job->X + (t * job->XStride), job->Gain, job->Y + (t * job->YStride), job->Columns);
    }

    /// <summary>Normalize, then ApplyGain, while the row is in the cache.</summary>
    public static void RmsNorm(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            RmsNorm(job->X + (t * job->XStride), job->Gain, job->Scalar, job->Y + (t * job->YStride), job->Columns);
    }

    /// <summary>branch (x) is normed in place, added to resid (y), and resid is normed into z.</summary>
    public static void AddNormedThenNorm(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
        {
            float* branch = job->X + (t * job->XStride);
            float* resid = job->Y + (t * job->YStride);
            RmsNorm(branch, job->Gain, job->Scalar, branch, job->Columns);
            AddScaled(branch, 1f, resid, job->Columns);
            RmsNorm(resid, job->NextGain, job->Scalar, job->Z + (t * job->ZStride), job->Columns);
        }
    }

    /// <summary>y += α·x, the product rounded first. A stride of 0 is one row of x for all.</summary>
    public static void AddScaled(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            AddScaled(job->X + (t * job->XStride), job->Scalar, job->Y + (t * job->YStride), job->Columns);
    }

    /// <summary>y = x.</summary>
    public static void Copy(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            Copy(job->X + (t * job->XStride), job->Y + (t * job->YStride), job->Columns);
    }

    /// <summary>x = cap·tanh(x/cap).</summary>
    public static void Softcap(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            Softcap(job->Y + (t * job->YStride), job->Columns, job->Scalar);
    }

    /// <summary>cap·tanh(x/cap) of a row, in place.</summary>
    public static void Softcap(float* x, int count, float cap)
    {
        V limit = S.All(cap);
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(VectorMath<S, V>.Softcap(S.Load(x + i), limit), x + i);
        if (i < count)
            Partial.Store<S, V>(VectorMath<S, V>.Softcap(Partial.Load<S, V, ElementF32>((byte*)(x + i), count - i), limit),
                x + i, count - i);
    }

    /// <summary>y = scale·E[token].</summary>
    public static void Embed(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
        {
            int token = job->Tokens[t];
            StoredMatrix* part = job->Parts;
            while (token >= part->FirstOutput + part->Outputs)
                part++;
            Embed(part, token - part->FirstOutput, job->Columns, job->Scalar, job->Y + (t * job->YStride));
        }
    }

    private static void Embed(StoredMatrix* part, int row, int count, float scale, float* y)
    {
        if (part->Transposed || part->DType == DType.F64)
        {
            for (int i = 0; i < count; i++)
                y[i] = (float)(scale * part->At(row, i));
            return;
        }

        if (part->DType == DType.F32)
            Scale<ElementF32>(part->Pointer + ((long)row * count * sizeof(float)), scale, y, count);
        else if (part->DType == DType.BF16)
            Scale<ElementBf16>(part->Pointer + ((long)row * count * sizeof(ushort)), scale, y, count);
        else
            Scale<ElementF16>(part->Pointer + ((long)row * count * sizeof(ushort)), scale, y, count);
    }

    private static void Scale<E>(byte* w, float scale, float* y, int count)
        where E : struct, IElement
    {
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(S.Multiply(S.All(scale), E.Load<S, V>(w + ((long)i * E.Size))), y + i);
        if (i < count)
            Partial.Store<S, V>(S.Multiply(S.All(scale), Partial.Load<S, V, E>(w + ((long)i * E.Size), count - i)), y + i, count - i);
    }

    private static void RmsNorm(float* x, float* gain, float epsilon, float* y, int count)
    {
        Norm.Normalize(x, count, epsilon, y);
        ApplyGain(y, gain, y, count);
    }

    private static void ApplyGain(float* u, float* gain, float* y, int count)
    {
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(S.Multiply(S.Load(u + i), S.Add(S.All(1f), S.Load(gain + i))), y + i);
        for (; i < count; i++)
            y[i] = u[i] * (1f + gain[i]);
    }

    private static void AddScaled(float* x, float alpha, float* y, int count)
    {
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(S.Add(S.Load(y + i), S.Multiply(S.All(alpha), S.Load(x + i))), y + i);
        for (; i < count; i++)
        {
            float product = alpha * x[i];
            y[i] += product;
        }
    }

    private static void Copy(float* x, float* y, int count) => new ReadOnlySpan<float>(x, count).CopyTo(new Span<float>(y, count));

    private static int First(RowJob* job, int unit) => unit * job->UnitRows;

    private static int End(RowJob* job, int unit) => Math.Min((unit + 1) * job->UnitRows, job->Rows);

    /// <summary>Rotates the heads of each row by the angles of its position.</summary>
    public static void Rope(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
        {
            float* angles = job->Gain + ((long)(job->Position + t) * job->ZStride);
            for (int h = 0; h < job->Columns; h += job->HeadDim)
                Rotate(job->Y + (t * job->YStride) + h, angles, job->HeadDim / 2);
        }
    }

    private static void Rotate(float* head, float* angles, int half)
    {
        int i = 0;
        for (; i + S.Lanes <= half; i += S.Lanes)
        {
            V a = S.Load(head + i), b = S.Load(head + half + i), cos = S.Load(angles + i), sin = S.Load(angles + half + i);
            S.Store(S.Subtract(S.Multiply(a, cos), S.Multiply(b, sin)), head + i);
            S.Store(S.MultiplyAdd(b, cos, S.Multiply(a, sin)), head + half + i);
        }

        for (; i < half; i++)
        {
            float a = head[i], b = head[half + i], cos = angles[i], sin = angles[half + i];
            head[i] = (a * cos) - (b * sin);
            head[half + i] = (b * cos) + (a * sin);
        }
    }

    /// <summary>Rotates queries and keys of rows of several sequences, each by its own position, and puts keys and values into the row's own cache.</summary>
    public static void RopeThenStore(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
        {
            RowPlace* place = job->Places + t;
            float* row = job->Y + (place->Row * job->YStride);
            float* angles = job->Gain + (place->Position * job->ZStride);
            int headDim = job->HeadDim, kv = place->Cache.Heads * headDim, rotated = job->Columns - kv;
            for (int h = 0; h < rotated; h += headDim)
                Rotate(row + h, angles, headDim / 2);
            StoreRow(row + rotated - kv, row + rotated, place->Cache, place->Position);
        }
    }

    /// <summary>Puts keys (x) and values (y) into the cache.</summary>
    public static void Store(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        for (int t = First(job, unit); t < End(job, unit); t++)
            StoreRow(job->X + (t * job->XStride), job->Y + (t * job->YStride), job->Cache, job->Position + t);
    }

    private static void StoreRow(float* k, float* v, in KvSlots cache, int position)
    {
        for (int h = 0; h < cache.Heads; h++)
        {
            StoreHead(k + (h * cache.HeadDim), cache.Place(cache.Keys, h, position), cache);
            StoreHead(v + (h * cache.HeadDim), cache.Place(cache.Values, h, position), cache);
        }
    }

    private static void StoreHead(float* x, byte* y, in KvSlots cache)
    {
        if (cache.Type == DType.BF16)
            BFloat16.Narrow(new ReadOnlySpan<float>(x, cache.HeadDim), new Span<BFloat16>(y, cache.HeadDim));
        else
            Copy(x, (float*)y, cache.HeadDim);
    }
}
